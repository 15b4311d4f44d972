"""HTTP before the replicas: JSON in, JSON out, one line where something is wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ray import exceptions
from ray.serve.exceptions import BackPressureError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from burnish.runtimes.ray_cluster.loopback import serve_on_loopback

TRIES = 3
"""How often a request is sent whose replica dies: to answer one twice changes nothing."""

PATIENCE = 30.0
"""Seconds after which /health counts as failed."""

PATIENT = 4
"""Times the bytes that a request may have, of which what is too much is read and let go: a client
that is still sending would not see the answer."""

ROUTES = {"/": ("GET", "POST"), "/health": ("GET",)}


class Front:
    """The deployment that HTTP requests come to.

    Args:
        service: the handle of `service.Service`.
        most: bytes of a request's body.
        facts: told by GET /.
    """

    def __init__(self, service: Any, most: int, facts: Mapping[str, Any]) -> None:
        serve_on_loopback()
        self._service, self._most, self._facts = service, most, dict(facts)

    async def __call__(self, request: Request) -> Response:
        """The response to any request."""
        path = request.url.path
        if path not in ROUTES:
            return wrong(404, f"there is nothing at {path[:80]}: / and /health")
        if request.method not in ROUTES[path]:
            return wrong(405, f"{path} takes {' and '.join(ROUTES[path])}")
        if path == "/health":
            return await self._health()
        return await self._about() if request.method == "GET" else await self._answer(request)

    async def _health(self) -> Response:
        try:
            seconds = await asyncio.wait_for(self._asked("probe"), PATIENCE)
        except BackPressureError:
            return wrong(503, "busy: as many requests wait as may")
        except Exception as error:
            return wrong(503, f"no inference in {PATIENCE:g} seconds, or none: {_kind(error)}")
        return JSONResponse({"status": "ok", "seconds": round(seconds, 4)})

    async def _about(self) -> Response:
        return JSONResponse(self._facts)

    async def _answer(self, request: Request) -> Response:
        body = await self._body(request)
        if body is None:
            return wrong(413, f"the request is larger than {self._most} bytes")
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            return wrong(400, "the request is not JSON")
        if not isinstance(asked, dict):
            return wrong(400, "the request is no JSON object")
        try:
            if asked.get("stream"):
                return await self._streamed(asked)
            reply = await self._asked("answer", asked)
        except BackPressureError:
            return wrong(503, "as many requests wait as may; try later")
        except exceptions.RayError as error:
            return wrong(503, f"the replica that had the request is gone: {_kind(error)}")
        return JSONResponse(reply["body"], reply["status"])

    async def _body(self, request: Request) -> bytes | None:
        """The body; None where it is too large, of which nothing is kept then."""
        told = request.headers.get("content-length", "0")
        fits, parts, size = told.isdigit() and int(told) <= self._most, list[bytes](), 0
        async for part in request.stream():
            size += len(part)
            fits = fits and size <= self._most
            if fits:
                parts.append(part)
            else:
                parts.clear()
            if size > PATIENT * self._most:
                break
        return b"".join(parts) if fits else None

    async def _asked(self, method: str, *arguments: Any) -> Any:
        """What a replica gives; another one is asked where it dies meanwhile."""
        for _ in range(TRIES - 1):
            try:
                return await getattr(self._service, method).remote(*arguments)
            except exceptions.RayActorError:
                continue
        return await getattr(self._service, method).remote(*arguments)

    async def _streamed(self, asked: Mapping[str, Any]) -> Response:
        replies = self._service.options(stream=True).stream.remote(asked).__aiter__()
        first = await replies.__anext__()
        if first["status"] != 200:
            return JSONResponse(first["body"], first["status"])
        return StreamingResponse(_lines(first, replies), media_type="application/x-ndjson")


async def _lines(first: Mapping[str, Any], replies: Any) -> AsyncIterator[str]:
    """Each reply as a line of JSON; the last one says `done`, or what went wrong."""
    yield json.dumps(first["body"]) + "\n"
    try:
        async for reply in replies:
            yield json.dumps(reply["body"]) + "\n"
    except Exception as error:
        yield json.dumps({"error": f"the replica that wrote it is gone: {_kind(error)}"}) + "\n"


def _kind(error: BaseException) -> str:
    return type(error).__name__


def wrong(status: int, line: str) -> Response:
    """A response that says what is wrong."""
    headers = {"Retry-After": "1"} if status == 503 else {}
    return JSONResponse({"error": line}, status, headers)

"""An artifact as an application of Ray Serve."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.exceptions import RayServeException

from burnish.optimizer.errors import BurnishError, UsageError, first_line
from burnish.runtimes.ray_cluster.actors import resources
from burnish.runtimes.ray_cluster.connection import (
    WITHOUT_ROOM,
    Connection,
    admit,
    admit_port,
    explained,
)
from burnish.runtimes.ray_cluster.files import shipped
from burnish.runtimes.ray_cluster.front import Front
from burnish.runtimes.ray_cluster.opening import Opening
from burnish.runtimes.ray_cluster.service import Service
from burnish.runtimes.ray_cluster.stages import read
from burnish.runtimes.stages import is_pipeline

MOST_BYTES = 16 << 20
"""Bytes of a request's body."""

AT_THE_FRONT = 100_000
"""Requests that the front may hold; how many wait for replicas is bounded behind it."""

ON_THE_HEAD = {"node:__internal_head__": 0.001}
"""The resource by which the front is where HTTP comes in."""

LOOK = 0.25
"""Seconds between two looks at what Serve has come to."""


@dataclass(frozen=True)
class Wishes:
    """How an artifact is served.

    Attributes:
        path: the artifact.
        host, port: where HTTP comes in.
        replicas: the least and the most; Ray scales between them.
        batch, wait: most requests answered together, and seconds that the first waits for others.
        queue: requests that may wait for a replica; more are refused.
        provider, threads, task: see `requests.open_answerer`.
    """

    path: Path
    host: str = "127.0.0.1"
    port: int = 8000
    replicas: tuple[int, int] = (1, 1)
    batch: int = 8
    wait: float = 0.01
    queue: int = 100
    provider: str = "cpu"
    threads: int = 0
    task: str | None = None


class Serving:
    """A service, until `close`.

    Args:
        wishes: see there.
        address: of the cluster; see `Connection`.
        say: told in words what goes on.

    Attributes:
        url: where it answers.
        facts: the task, what it takes and gives, an example.

    Raises:
        UsageError: there is no room, or the port is taken.
        BurnishError: the artifact cannot be opened.
    """

    def __init__(self, wishes: Wishes, address: str, say: Callable[[str], None]) -> None:
        self.url = f"http://{wishes.host}:{wishes.port}/"
        self._name = f"burnish-{wishes.port}"
        self._left = contextlib.ExitStack()
        with contextlib.ExitStack() as left:
            say("starting Ray")
            connection = left.enter_context(Connection(address))
            ending = _start(wishes.host, wishes.port, local=connection.local)
            left.callback(ending)
            staged = is_pipeline(wishes.path)
            _admit(wishes, staged)
            shipment, depot = shipped(wishes.path)
            left.callback(ray.kill, depot)
            opening = Opening(shipment, wishes.provider, wishes.threads, wishes.task, staged)
            say("opening the artifact")
            self.facts = _described(opening)
            say("starting replicas")
            self._deploy(wishes, opening, left)
            self._left = left.pop_all()

    def _deploy(self, wishes: Wishes, opening: Opening, left: contextlib.ExitStack) -> None:
        service = _service(wishes, opening)
        front = serve.deployment(Front).options(
            name="front",
            max_ongoing_requests=AT_THE_FRONT,
            ray_actor_options={"num_cpus": 0, "resources": ON_THE_HEAD},
        )
        left.callback(_delete, self._name)
        application = front.bind(service, MOST_BYTES, self.facts)
        try:
            serve.run_many(
                [serve.RunTarget(application, self._name, "/")],
                wait_for_ingress_deployment_creation=False,
                wait_for_applications_running=False,
            )
        except (RayServeException, ValueError) as error:
            raise UsageError(f"Serve refuses it: {first_line(error)}") from None
        self._wait()

    def _wait(self) -> None:
        """Return once replicas are ready; raise where they come to nothing."""
        end = time.monotonic() + WITHOUT_ROOM
        while time.monotonic() < end:
            found = serve.status().applications.get(self._name)
            if found is not None and found.status == "RUNNING":
                return
            if found is not None and found.status == "DEPLOY_FAILED":
                told = [item.message for item in found.deployments.values() if item.message]
                lines = [line for text in told for line in text.splitlines() if line.strip()]
                raise BurnishError(f"no replica starts: {(lines or [found.message])[-1].strip()}")
            time.sleep(LOOK)
        raise UsageError(
            f"replicas have not started in {WITHOUT_ROOM:g} seconds", hint="fewer --replicas"
        )

    def check(self) -> None:
        """Raise BurnishError where the cluster is gone."""
        try:
            serve.status()
        except Exception as error:
            raise BurnishError(f"the cluster has ended: {first_line(error)}") from None

    def close(self) -> None:
        """Answer what is under way, and end; a second call does nothing."""
        self._left.close()

    def __enter__(self) -> Serving:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _admit(wishes: Wishes, staged: bool) -> None:
    """Raise where the cluster has no room for the least that is to run."""
    needs = resources(wishes.provider, wishes.threads)
    each = len(read(wishes.path)[0]) if staged else 1
    count = max(wishes.replicas[0], 1)
    gpus = {"GPU": count * each * needs["num_gpus"]} if "num_gpus" in needs else {}
    admit(count * each * needs["num_cpus"], f"{count} replicas", gpus)


def _described(opening: Opening) -> dict[str, Any]:
    """What the artifact is, by opening it once: what is wrong with it is told better here."""
    place = {} if opening.staged else resources(opening.provider, opening.threads)
    task = ray.remote(_describe).options(**{"num_cpus": 0, **place}, max_retries=0)
    try:
        facts: dict[str, Any] = ray.get(task.remote(opening), timeout=WITHOUT_ROOM)
    except Exception as error:
        raise explained(error) from None
    return facts


def _describe(opening: Opening) -> dict[str, Any]:
    answerer, copy = opening.opened()
    try:
        answerer.probe()
        return {"task": answerer.task, "example": answerer.example(), **answerer.about()}
    finally:
        answerer.close()
        copy.close()


def _service(wishes: Wishes, opening: Opening) -> Any:
    """The deployment of replicas, with its arguments."""
    least, most = wishes.replicas
    scaling: Mapping[str, Any] = {"num_replicas": least}
    if least != most:
        target = float(max(1, wishes.batch))
        scaling = {
            "autoscaling_config": {
                "min_replicas": least,
                "max_replicas": most,
                "target_ongoing_requests": target,
            }
        }
    needs = {"num_cpus": 0} if opening.staged else resources(wishes.provider, wishes.threads)
    kind = serve.deployment(Service).options(
        name="service",
        # A batch is computed while the next one gathers.
        max_ongoing_requests=2 * wishes.batch,
        max_queued_requests=wishes.queue,
        ray_actor_options=needs,
        health_check_timeout_s=60.0,
        max_constructor_retry_count=3,
        **scaling,
    )
    return kind.bind(opening, wishes.batch, wishes.wait)


def _start(host: str, port: int, *, local: bool) -> Callable[[], None]:
    """Serve's proxy on the head node listens there; how to end what that has started."""
    before = _client()
    if before is None:
        admit_port(host, port)
    quiet = {"log_level": "ERROR", "enable_access_log": False}
    serve.start(
        proxy_location="HeadOnly",
        http_options=HTTPOptions(host=host, port=port),
        logging_config=quiet,
    )
    config = getattr(_client(), "http_config", None)
    if config is not None and (config.host, config.port) != (host, port):
        told = f"Serve runs on this cluster already, at {config.host}:{config.port}"
        raise UsageError(told, hint=f"--host {config.host} --port {config.port}")
    # A cluster of one's own ends as a whole.
    return serve.shutdown if before is None and not local else lambda: None


def _client() -> Any:
    return serve.context._get_global_client(raise_if_no_controller_running=False)


def _delete(name: str) -> None:
    with contextlib.suppress(Exception):  # the cluster may be gone
        serve.delete(name)


def curl(url: str, facts: Mapping[str, Any]) -> str:
    """A command line that asks the service for something."""
    body = json.dumps(facts["example"]).replace("'", "'\\''")
    return f"curl {url} -d '{body}'"

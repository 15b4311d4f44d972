"""Connecting to a cluster, or starting one on this machine that only this machine can reach."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Mapping

import ray
from ray import exceptions

from burnish.optimizer.errors import UsageError, WorkerFailed, first_line
from burnish.runtimes.ray_cluster.loopback import (
    addresses_of_loopback,
    environment,
    is_loopback,
    own_environment,
)

LOCAL = "local"
"""The address that stands for a cluster of one's own, which ends with its user."""

WITHOUT_ROOM = 120.0
"""Seconds that actors may take to start, their imports and models included."""


class _Shared:
    """What this process has begun for its connections, of which the last one ends it."""

    lock = threading.Lock()
    users = 0
    local = False
    left = contextlib.ExitStack()


class Connection:
    """This process as a driver of a cluster.

    Args:
        address: `local` for a cluster of its own, `auto` for the one that runs on this machine, or
            HOST:PORT. Where this process is connected already, that connection is used; the last
            one to close leaves the cluster, unless the user has made the connection.

    Attributes:
        local: whether the cluster is this process's own.

    Raises:
        UsageError: there is no cluster at that address.
    """

    def __init__(self, address: str) -> None:
        with _Shared.lock:
            self._counts = _Shared.users > 0 or not ray.is_initialized()
            if self._counts and not _Shared.users:
                _Shared.left = _connected(address)
                _Shared.local = address == LOCAL
            _Shared.users += self._counts
            self.local = self._counts and _Shared.local

    def close(self) -> None:
        """Leave the cluster, and end it where it was started for this; once is enough."""
        with _Shared.lock:
            _Shared.users -= self._counts
            if self._counts and not _Shared.users:
                _Shared.left.close()
            self._counts = False

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _connected(address: str) -> contextlib.ExitStack:
    """Connect; what is to be closed to leave."""
    for name in ("ray", "ray.serve", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    ending = signal.getsignal(signal.SIGTERM)
    with contextlib.ExitStack() as left:
        if address == LOCAL:
            left.enter_context(environment(own_environment()))
        left.callback(ray.shutdown)
        try:
            _start(address, address == LOCAL)
        except (ConnectionError, RuntimeError, ValueError, exceptions.RayError) as error:
            hint = "ray start --head there, or `local` for a cluster of its own"
            raise UsageError(
                f"no Ray cluster answers at {address}: {first_line(error)}", hint=hint
            ) from None
        if ending is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ending)  # Ray's own would abort the process
        return left.pop_all()


def _start(address: str, local: bool) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    with addresses_of_loopback() if local else contextlib.nullcontext():
        ray.init(address=address, **({"include_dashboard": False} if local else {}), **quiet)
    if local and not is_loopback():
        raise RuntimeError("Ray would listen beyond this machine")


def admit_port(host: str, port: int) -> None:
    """Raise UsageError where nothing can listen there: Ray says it late, and not in a line."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{host}:{port} is not free: {reason}", hint="another --port") from None


def admit(processors: float, what: str, devices: Mapping[str, float] | None = None) -> None:
    """Raise UsageError where the cluster as a whole has not what actors ask for.

    Args:
        processors: how many they need together.
        what: who they are, for the message.
        devices: other resources by name.
    """
    has = ray.cluster_resources()
    for name, needed in {"CPU": processors, **(devices or {})}.items():
        if needed > has.get(name, 0.0):
            called = "processors" if name == "CPU" else f"of the resource {name}"
            raise UsageError(
                f"{what} need {needed:g} {called}, and the cluster has {has.get(name, 0.0):g}",
                hint="more nodes, or fewer",
            )


def explained(error: BaseException) -> BaseException:
    """What went wrong on a node, without what Ray wraps around it."""
    while isinstance(error, exceptions.RayTaskError) and error.cause not in (None, error):
        error = error.cause
    if isinstance(error, exceptions.GetTimeoutError):
        return UsageError(
            f"the cluster has had no room for it in {WITHOUT_ROOM:g} seconds",
            hint="more nodes, or fewer replicas",
        )
    if isinstance(error, exceptions.RayError):
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = lines[-1] if isinstance(error, exceptions.RayTaskError) else first_line(error)
        return WorkerFailed(f"a worker of the cluster failed: {said}")
    return error

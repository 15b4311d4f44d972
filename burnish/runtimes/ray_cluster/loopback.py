"""A cluster of one's own listens on loopback only, and asks whoever connects for a token."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import ray

OWN = {
    # Ray binds to loopback where it takes the machine for none of a cluster, as on macOS.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # What Ray's processes send each other is pickled: other users' processes are kept out.
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""The environment that a cluster of one's own is started in, where the user has not set it."""


def own_environment() -> dict[str, str]:
    """That, with a token that nobody else can read: Ray's own file is open to all users."""
    told = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    return OWN if told else OWN | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}


def is_loopback() -> bool:
    """Whether this node's address is one that no other machine reaches."""
    address: str = ray.util.get_node_ip_address()
    return address.startswith("127.")


@contextlib.contextmanager
def addresses_of_loopback() -> Iterator[None]:
    """Ray reads that variable when it is imported, which may have been before."""
    constants = ray._private.ray_constants
    before = getattr(constants, "ENABLE_RAY_CLUSTER", None)
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables that the processes of a cluster are started with, unless the user has set them."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    _read_again()
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
        _read_again()


def _read_again() -> None:
    """This process has read whether it needs a token, and which one, when Ray was imported."""
    ray._raylet.Config.initialize("")
    if (loader := getattr(ray._raylet, "AuthenticationTokenLoader", None)) is not None:
        loader.instance().reset_cache()


def serve_on_loopback() -> None:
    """Let a replica of Serve listen where Ray does.

    Replicas listen for each other on all interfaces (2.60), though only to those with the token.
    """
    if not is_loopback():
        return
    try:
        from ray.serve._private import replica
    except ImportError:
        return
    listen = getattr(replica, "add_port_to_grpc_server", None)

    def listening(server: Any, address: str) -> Any:
        return listen(server, address.replace("[::]:", "127.0.0.1:")) if listen else 0

    if listen is not None:
        replica.add_port_to_grpc_server = listening

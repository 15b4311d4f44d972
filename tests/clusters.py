"""A Ray cluster of two nodes on this machine, for tests; what its processes leave goes with it."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")

from ray.cluster_utils import Cluster  # noqa: E402

from burnish.runtimes.ray_cluster.loopback import (  # noqa: E402
    OWN,
    addresses_of_loopback,
    environment,
)

NODE: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 100 << 20}

# Ray's sockets and files are closed with its processes, not by its Python objects.
RAY_WARNINGS = (
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::pytest.PytestUnhandledThreadExceptionWarning",
    "ignore::DeprecationWarning:ray.*",
    "ignore::FutureWarning:ray.*",
)


class TwoNodes:
    """A head, and a second node that can die.

    Attributes:
        address: of the cluster.
    """

    def __init__(self) -> None:
        self._cluster = Cluster(
            initialize_head=True, head_node_args={**NODE, "include_dashboard": False}
        )
        self.address: str = self._cluster.address
        self._second = self._cluster.add_node(**NODE, resources={"a": 2.0})

    def lose_a_node(self) -> None:
        """The second node ends, with all of its processes, and another one takes its place."""
        self._cluster.remove_node(self._second)
        self._second = self._cluster.add_node(**NODE, resources={"a": 2.0})

    def close(self) -> None:
        ray.shutdown()
        self._cluster.shutdown()


@contextlib.contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    # A short name: sockets of Ray have long ones below it.
    folder = f"{tempfile.gettempdir()}/ray-{uuid.uuid4().hex[:6]}"
    own = {**OWN, "RAY_TMPDIR": folder, "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    with pytest.MonkeyPatch.context() as patch, environment({}), addresses_of_loopback():
        for name, value in own.items():
            patch.setenv(name, value)
        with environment({}):
            cluster = TwoNodes()
            try:
                yield cluster
            finally:
                cluster.close()
                shutil.rmtree(folder, ignore_errors=True)


def token_feeds(count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Feeds of the tagger."""
    random = np.random.default_rng(seed)
    return [
        {
            "input_ids": random.integers(0, 1000, (2, length)),
            "attention_mask": np.ones((2, length), np.int64),
        }
        for length in random.integers(1, 30, count)
    ]

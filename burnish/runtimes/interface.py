"""What a runtime is: open an artifact, run it, close it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy.typing as npt


class Runtime(Protocol):
    """A loaded artifact. `run` has the signature of `onnxruntime.InferenceSession.run`."""

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, npt.NDArray[Any]]
    ) -> list[npt.NDArray[Any]]:
        """The outputs asked for (all where None), in order."""

    def get_inputs(self) -> Any:
        """The inputs, in order; each has a `name`."""

    def get_outputs(self) -> Any:
        """The outputs, in order; each has a `name`."""

    def fallen(self) -> list[tuple[str, int]] | None:
        """Operators with nodes that are not on the provider asked for, and how many, most first.

        None where the runtime does not tell.
        """

    def close(self) -> None:
        """Free what the runtime holds; a second call does nothing."""

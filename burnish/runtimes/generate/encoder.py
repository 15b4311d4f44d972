"""An encoder, which gives the decoder's caches of what it has read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from burnish.optimizer.errors import UnsupportedModel
from burnish.runtimes.generate.ports import suffix_of
from burnish.runtimes.generate.sequences import Array, Integers
from burnish.runtimes.resident import Mover, Resident, ResidentSession


class Encoder:
    """An encoder's session.

    Args:
        path: its model.
        fixed: the decoder's inputs that it gives, by the part of their name that both have.
        provider, threads: see `ResidentSession`.

    Raises:
        UsageError, UnsupportedModel: see `ResidentSession`; or its outputs are not those that the
            decoder wants.
    """

    def __init__(
        self, path: Path, fixed: Mapping[str, str], *, provider: str, threads: int
    ) -> None:
        self._session = ResidentSession(path, provider=provider, threads=threads)
        self.main, *rest = [port.name for port in self._session.inputs]
        self.masked = "attention_mask" in rest
        outputs = {suffix_of(port.name): port for port in self._session.outputs}
        if missing := sorted(set(fixed) - set(outputs)):
            raise UnsupportedModel(
                "the encoder does not give what the decoder wants", place=fixed[missing[0]]
            )
        ports = [outputs[suffix] for suffix in fixed]
        self._outputs, self._inputs = [port.name for port in ports], list(fixed.values())
        self._mover = Mover(ports, provider=provider, threads=threads)

    @property
    def reads_text(self) -> bool:
        """Whether it is given tokens (else features of sound or images)."""
        return self.main == "input_ids"

    def __call__(self, values: Array, mask: Integers, copies: int = 1) -> dict[str, Resident]:
        """The decoder's caches by input, so many times for each row one after the other.

        Args:
            values: [rows, sequence] tokens, or features.
            mask: [rows, sequence], 0 where rows are padded; for tokens.
            copies: beams of each row.
        """
        arrays: dict[str, Array] = {self.main: np.ascontiguousarray(values)}
        if self.masked:
            arrays["attention_mask"] = mask
        _, caches = self._session.run(arrays, {}, (), self._outputs)
        if copies > 1:
            caches = self._mover.rows(caches, np.repeat(np.arange(len(values)), copies))
        return dict(zip(self._inputs, caches, strict=True))

    def close(self) -> None:
        """Free the sessions."""
        self._session.close()
        self._mover.close()

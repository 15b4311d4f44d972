"""An encoder, which gives the decoder's caches of what it has read."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from burnish.optimizer.errors import UnsupportedModel
from burnish.runtimes.generate.ports import suffix_of
from burnish.runtimes.generate.sequences import Array, Integers
from burnish.runtimes.resident import Resident, ResidentSession


class Encoder:
    """An encoder's session.

    Args:
        session: see there.
        fixed: the decoder's inputs that it gives, by the part of their name that both have.

    Raises:
        UnsupportedModel: its outputs are not those that the decoder wants.
    """

    def __init__(self, session: ResidentSession, fixed: Mapping[str, str]) -> None:
        self.session = session
        self.main, *rest = [port.name for port in session.inputs]
        self.masked = "attention_mask" in rest
        outputs = {suffix_of(port.name): port.name for port in session.outputs}
        if missing := sorted(set(fixed) - set(outputs)):
            raise UnsupportedModel(
                "the encoder does not give what the decoder wants", place=fixed[missing[0]]
            )
        self._outputs, self._inputs = [outputs[name] for name in fixed], list(fixed.values())

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
        _, caches = self.session.run(arrays, {}, (), self._outputs)
        if copies > 1:
            caches = self.session.rows(caches, np.repeat(np.arange(len(values)), copies))
        return dict(zip(self._inputs, caches, strict=True))

    def close(self) -> None:
        """Free the session."""
        self.session.close()

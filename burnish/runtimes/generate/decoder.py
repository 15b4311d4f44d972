"""A decoder, and what it has seen of a batch: caches, mask and positions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from burnish.runtimes.generate.caches import caches_of
from burnish.runtimes.generate.ports import read
from burnish.runtimes.generate.sequences import Array, Integers, Numbers
from burnish.runtimes.resident import Resident, ResidentSession


class Decoder:
    """A decoder's session, and what its ports are.

    Raises:
        UnsupportedModel: see `ports.read`.
    """

    def __init__(self, session: ResidentSession) -> None:
        self.session = session
        self.ports = read(session.inputs, session.outputs)

    def close(self) -> None:
        """Free the session."""
        self.session.close()


class Context:
    """What a decoder has seen of a batch.

    Args:
        decoder: see there.
        mask: [rows, prompt], 0 where a prompt is padded; None where the decoder has no mask.
        rows: how many there are.
        capacity: tokens of a row at most.
        fixed: caches that do not grow, by input.
        encoder_mask: [rows, encoded], where the decoder takes one.
    """

    def __init__(
        self,
        decoder: Decoder,
        mask: Integers | None,
        rows: int,
        capacity: int,
        fixed: Mapping[str, Resident] | None = None,
        encoder_mask: Integers | None = None,
    ) -> None:
        self.decoder, self.ports = decoder, decoder.ports
        self.length = 0
        self._presents = [cache.present for cache in self.ports.caches]
        self._fixed = dict(fixed or {})
        self._caches = caches_of(decoder.session, self.ports.caches, rows, capacity)
        self._mask = np.ones((rows, capacity), np.int64)
        if mask is not None:
            self._mask[:, : mask.shape[1]] = mask
        self._positions = np.maximum(self._mask.cumsum(1) - 1, 0)
        self._encoder_mask = encoder_mask
        self._kept: dict[int, Integers] = {}

    def step(self, tokens: Integers, kept: int = 1) -> Numbers:
        """Go on by tokens [rows, sequence]; logits [rows, kept, vocabulary] of the last ones."""
        ports, start, end = self.ports, self.length, self.length + tokens.shape[1]
        arrays: dict[str, Array] = {ports.ids: tokens}
        if ports.mask:
            arrays[ports.mask] = self._caches.mask(self._mask, start, end)
        if ports.positions:
            arrays[ports.positions] = np.ascontiguousarray(self._positions[:, start:end])
        if ports.kept:
            arrays[ports.kept] = self._places(kept)
        if ports.encoder_mask and self._encoder_mask is not None:
            arrays[ports.encoder_mask] = self._encoder_mask
        residents = {**self._caches.residents(), **self._fixed}
        given, presents = self.decoder.session.run(
            arrays, residents, (ports.logits,), self._presents
        )
        self._caches.put(presents, start, end)
        self.length = end
        logits: Numbers = given[0][:, -kept:]
        return logits if logits.dtype == np.float32 else logits.astype(np.float32)

    def _places(self, kept: int) -> Integers:
        """The last places of the sequence, counted from its end."""
        if kept not in self._kept:
            self._kept[kept] = np.arange(-kept, 0)
        return self._kept[kept]

    def cut(self, length: int) -> None:
        """Forget what was seen after so many tokens."""
        if length < self.length:
            self._caches.cut(length)
            self.length = length

    def keep(self, index: Integers) -> None:
        """Go on with these rows only."""
        self.rows(index)
        fixed = self.decoder.session.rows(list(self._fixed.values()), index)
        self._fixed = dict(zip(self._fixed, fixed, strict=True))
        if self._encoder_mask is not None:
            self._encoder_mask = self._encoder_mask[index]

    def rows(self, index: Integers) -> None:
        """Go on with these rows, in that order; caches that do not grow stay as they are."""
        if not np.array_equal(index, np.arange(len(self._mask))):
            self._caches.rows(index)
            self._mask, self._positions = self._mask[index], self._positions[index]

"""What each input and output of a decoder is, told by names that exporters use and by sizes.

Known are those of our own exports, of Optimum (`past_key_values.0.decoder.key` and
`present.0.decoder.key`) and of ONNX Runtime's (`past_key_self_0` and `present_key_self_0`): what is
before a run and after it has the same name but for its beginning. Where names tell nothing, caches
are paired in their order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from burnish.optimizer.errors import UnsupportedModel
from burnish.runtimes.resident import Port

PAST = re.compile(r"^(?:past_key_values|past)(?=[._])")
PRESENT = re.compile(r"^(?:present_key_values|present)(?=[._])")
CROSS = re.compile(r"[._](?:encoder|cross)(?:[._]|$)")
"""In names of caches of what an encoder gave, which do not grow."""

MASKS = ("attention_mask", "encoder_attention_mask")


@dataclass(frozen=True)
class Cache:
    """A cache that grows.

    Attributes:
        past: the input, [batch, heads, positions, size].
        present: the output.
    """

    past: Port
    present: str


@dataclass(frozen=True)
class Ports:
    """The ports of a decoder.

    Attributes:
        ids: [batch, sequence].
        mask: of past and present tokens, or empty.
        encoder_mask: of what an encoder was given, or empty.
        positions: [batch, sequence], or empty.
        kept: [kept], the places whose logits are wanted, or empty.
        caches: those that grow.
        fixed: by the part of the name that the encoder's output has too.
        logits: [batch, kept or sequence, vocabulary].
    """

    ids: str
    mask: str
    encoder_mask: str
    positions: str
    kept: str
    caches: tuple[Cache, ...]
    fixed: dict[str, str]
    logits: str


def read(inputs: Sequence[Port], outputs: Sequence[Port]) -> Ports:
    """What the ports of a decoder are.

    Raises:
        UnsupportedModel: it has none that tokens go in, hands no caches on, or wants more.
    """
    names = [port.name for port in inputs]
    if "use_cache_branch" in names:
        raise UnsupportedModel(
            "a decoder of two branches, with caches and without", place="use_cache_branch",
            hint="one that is exported with its caches alone",
        )  # fmt: skip
    ids = next((name for name in ("input_ids", "decoder_input_ids") if name in names), "")
    if not ids:
        raise UnsupportedModel("the decoder has no input_ids, so that no tokens go in")
    cross = "encoder_attention_mask" if "encoder_attention_mask" in names else ""
    mask = "attention_mask" if "attention_mask" in names else ""
    known = {ids, cross, mask, "position_ids", "logits_to_keep"}
    logits = next((port.name for port in outputs if port.name == "logits"), outputs[0].name)
    pasts = [port for port in inputs if port.name not in known]
    caches, fixed = _paired(pasts, [port.name for port in outputs if port.name != logits])
    if not caches:
        raise UnsupportedModel(
            "the decoder hands no caches on: each token would cost as much as all before it",
            hint="an export with past_key_values as inputs and outputs",
        )
    return Ports(
        ids, mask, cross, "position_ids" if "position_ids" in names else "",
        "logits_to_keep" if "logits_to_keep" in names else "", caches, fixed, logits,
    )  # fmt: skip


def _paired(
    pasts: Sequence[Port], presents: Sequence[str]
) -> tuple[tuple[Cache, ...], dict[str, str]]:
    """Caches that grow, and the inputs that stay as they are."""
    after = {suffix_of(name): name for name in presents}
    caches, fixed = [], {}
    for port in pasts:
        suffix = suffix_of(port.name)
        if CROSS.search(suffix):
            fixed[suffix] = port.name
        elif suffix in after:
            caches.append(Cache(port, after[suffix]))
        elif PAST.match(port.name) or len(pasts) != len(presents):
            raise UnsupportedModel(
                "an input that is not known; no output belongs to it", place=port.name
            )
    if not caches and not fixed and len(pasts) == len(presents):
        caches = [Cache(port, name) for port, name in zip(pasts, presents, strict=True)]
    for cache in caches:
        heads_and_size(cache.past)
    return tuple(caches), fixed


def suffix_of(name: str) -> str:
    """The part of a cache's name that it has before a run and after it."""
    return PRESENT.sub("", PAST.sub("", name))


def heads_and_size(port: Port) -> tuple[int, int]:
    """The sizes of a cache that are always the same.

    Raises:
        UnsupportedModel: it does not have four axes, or its ports do not tell.
    """
    if len(port.shape) == 4:
        heads, size = port.shape[1], port.shape[3]
        if isinstance(heads, int) and isinstance(size, int):
            return heads, size
    raise UnsupportedModel(
        f"a cache of shape {list(port.shape)}, not [batch, heads, positions, size]",
        place=port.name,
    )

"""Which passes a request runs, in order."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.driver import vocabulary
from burnish.driver.masking import method_of
from burnish.driver.request import INT8, LEVELS, STATIC, Request
from burnish.driver.retreat import NEEDED
from burnish.optimizer.contract import Pass, Sparing
from burnish.optimizer.pipeline import Compiled
from burnish.optimizer.report import BY_OPSET, release
from burnish.passes import registry
from burnish.passes.compress.blockwise.weight_only import WeightOnly
from burnish.passes.compress.fast_gelu import FastGelu
from burnish.passes.compress.int8.dynamic import DynamicInt8
from burnish.passes.compress.int8.qdq import StaticInt8
from burnish.passes.compress.kv_cache.kv_cache import KvCache
from burnish.passes.compress.low_rank.low_rank import LowRank
from burnish.passes.compress.masks.weight_masks import WeightMasks
from burnish.passes.compress.pruning.prune import Prune
from burnish.passes.compress.vocabulary.vocabulary import Vocabulary
from burnish.passes.compress.window import Window
from burnish.passes.lower.attention.static_cache import LowerStaticCache
from burnish.passes.lower.half.half_precision import HalfPrecision
from burnish.passes.lower.sparse.sparse_storage import SparseStorage
from burnish.passes.recover.raise_opset import LADDER, RaiseOpset
from burnish.passes.restructure.pack import Pack


@dataclass(frozen=True)
class Spared:
    """Places that compression is gentler to than to others, by the names of what they give.

    Attributes:
        finer: products and lookups that are compressed less; see the passes.
        keep: those that stay in float32.
    """

    finer: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    def __add__(self, other: Spared) -> Spared:
        keep = {*self.keep, *other.keep}
        finer = {*self.finer, *other.finer} - keep
        return Spared(tuple(sorted(finer)), tuple(sorted(keep)))

    def described(self, compression: Sparing) -> str:
        """In words: what the compression gives to them."""
        parts = ((compression.finer_is, self.finer), (compression.kept_is, self.keep))
        return " and ".join(
            f"{what} in {len(names)} place{'s' * (len(names) > 1)}"
            for what, names in parts
            if names
        )


def passes_for(request: Request, spared: Spared | None = None) -> list[Pass]:
    """The passes of the request's level and precision.

    -O0 runs none, -O1 those that promise exactness, -O2 and -O3 also those that round. Lossy
    passes run where the request asks for them, and with them the one that raises operator sets,
    since int8 and bfloat16 are written in operators of the newer ones. Tokens are found in graphs
    whose constants are told apart from what is computed.

    Args:
        request: what the user asks for.
        spared: places that int8 is gentler to.
    """
    asked = _asked_for(request, spared or Spared())
    chosen: list[Pass] = []
    for kind in registry():
        if kind.asked:
            chosen += [item for item in asked if isinstance(item, kind)]
        elif kind is RaiseOpset and (target := _newest_operator_set(request)) is not None:
            chosen.append(RaiseOpset(target))
        elif request.level >= LEVELS[kind.promise.kind] or (
            (kind is RaiseOpset and (request.int8 or request.weight_bits or request.bf16))
            or (request.vocabulary and kind in NEEDED)
        ):
            chosen.append(kind())
    return chosen


def _asked_for(request: Request, spared: Spared) -> list[Pass]:
    """The passes that run only where the user asks for them, as far as that is so."""
    asked: list[Pass] = []
    tables, force = not request.keep_embeddings, request.force
    keep, finer = spared.keep, spared.finer
    if request.pack:
        asked.append(Pack())
    if request.prune:
        asked.append(Prune())
    if request.vocabulary:
        chosen = vocabulary.chosen(request.vocabulary)
        asked.append(Vocabulary(chosen.kept, request.keep_ids, chosen.unknown))
    if request.window:
        asked.append(Window(request.window, request.global_tokens, tuple(request.layers), keep))
    if request.low_rank:
        asked.append(LowRank(keep, finer, tables=force))
    if request.sparsity:
        runs = bool(request.data) and request.check
        asked.append(WeightMasks(request.sparsity, method_of(request.mask, runs=runs), keep))
    if request.int8 and request.int8_kind == "products":
        asked.append(DynamicInt8(tables, force, keep, finer, request.static))
    if request.int8 and request.int8_kind == "qdq":
        asked.append(StaticInt8(force, keep))
    if bits := request.weight_bits:
        asked.append(WeightOnly(bits, embeddings=tables, force=force, keep=keep, finer=finer))
    if request.kv_cache == INT8:
        asked.append(KvCache(keep))
    if request.kv_cache == STATIC:
        asked.append(LowerStaticCache())
    if request.fast_gelu:
        asked.append(FastGelu())
    if request.fp16 or request.bf16:
        asked.append(HalfPrecision(keep, "bfloat16" if request.bf16 else "float16"))
    if request.sparse_storage:
        asked.append(SparseStorage())
    return asked


def only_raised(compiled: Compiled, request: Request) -> bool:
    """Whether nothing came of a compilation but a newer operator set, which nobody asked for."""
    kept = [step.transform for step in compiled.kept]
    raised = bool(kept) and all(isinstance(item, RaiseOpset) for item in kept)
    return raised and request.opset is None


def _newest_operator_set(request: Request) -> int | None:
    """The operator set that the request names, or that the oldest ONNX Runtime it names knows."""
    if request.opset is not None or request.min_ort is None:
        return request.opset
    known = [opset for opset, least in BY_OPSET.items() if least <= release(request.min_ort)]
    return min(max(known, default=LADDER[-1]), LADDER[0])

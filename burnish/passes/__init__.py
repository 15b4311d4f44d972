"""The registry: every pass, in order, by phase. This is the compiler's table of contents."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from burnish.optimizer.contract import Pass, Phase
from burnish.optimizer.errors import UsageError
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
from burnish.passes.lower.activation.activation import LowerActivation
from burnish.passes.lower.attention.attention import LowerAttention
from burnish.passes.lower.attention.static_cache import LowerStaticCache
from burnish.passes.lower.half.half_precision import HalfPrecision
from burnish.passes.lower.norm_form import LowerNorm
from burnish.passes.lower.product_form import LowerProduct
from burnish.passes.lower.sparse.sparse_storage import SparseStorage
from burnish.passes.recover.attention.attention import RecoverAttention
from burnish.passes.recover.clean import Clean
from burnish.passes.recover.debris import Debris
from burnish.passes.recover.flat_transpose import FlatTranspose
from burnish.passes.recover.fold_constants import FoldConstants
from burnish.passes.recover.gelu import Gelu
from burnish.passes.recover.inline_functions import InlineFunctions
from burnish.passes.recover.layer_norm import LayerNorm
from burnish.passes.recover.linear import Linear
from burnish.passes.recover.nan_guard import NanGuard
from burnish.passes.recover.onnxsim import Onnxsim
from burnish.passes.recover.raise_opset import RaiseOpset
from burnish.passes.recover.rms_norm import RmsNorm
from burnish.passes.recover.rotary import Rotary
from burnish.passes.restructure.fold_affine import FoldAffine
from burnish.passes.restructure.hoist_constants import HoistConstants
from burnish.passes.restructure.merge_projections import MergeProjections
from burnish.passes.restructure.moves.compose_moves import ComposeMoves
from burnish.passes.restructure.pack import Pack
from burnish.passes.restructure.sink_selection import SinkSelection
from burnish.passes.restructure.sparse.sparse_weights import SparseWeights
from burnish.passes.restructure.spectral.spectral import Spectral

REGISTRY: tuple[type[Pass], ...] = (
    # recover: exporter debris -> standard high-level operators
    InlineFunctions,
    RaiseOpset,
    Onnxsim,
    FoldConstants,
    FlatTranspose,
    Clean,
    Linear,
    LayerNorm,
    RmsNorm,
    Gelu,
    Rotary,
    Debris,
    RecoverAttention,
    NanGuard,
    # restructure: the same function, computed with less work; before it, less of a function, so
    # that what follows chooses for the widths that stay
    Prune,
    Spectral,
    FoldAffine,
    HoistConstants,
    SinkSelection,
    SparseWeights,
    MergeProjections,
    ComposeMoves,
    Pack,
    # compress: a cheaper function within the user's budget
    Vocabulary,
    Window,
    LowRank,
    WeightMasks,
    DynamicInt8,
    StaticInt8,
    WeightOnly,
    FastGelu,
    KvCache,
    # lower: the fastest kernels measured on the target
    LowerStaticCache,
    LowerAttention,
    LowerProduct,
    LowerActivation,
    LowerNorm,
    HalfPrecision,
    SparseStorage,
)

ENTRY_POINTS = "burnish.passes"
"""Group under which other distributions register passes of their own."""


def registry() -> list[type[Pass]]:
    """Our passes and those of other distributions, in the order of phases."""
    found = [_load(point) for point in entry_points(group=ENTRY_POINTS)]
    phases = list(Phase)
    return sorted((*REGISTRY, *found), key=lambda item: phases.index(item.phase))


def _load(point: EntryPoint) -> type[Pass]:
    try:
        kind = point.load()
    except Exception as error:  # whatever the other distribution does when it is imported
        raise UsageError(f"pass {point.name} cannot be loaded: {error}") from None
    if not (isinstance(kind, type) and issubclass(kind, Pass)):
        raise UsageError(f"{point.name} of {ENTRY_POINTS} is no pass")
    return kind

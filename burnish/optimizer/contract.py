"""What a pass is: a frozen dataclass of options, a promise, and one method with an outcome.

    @dataclass(frozen=True)
    class Clean(Pass):
        name = "clean"
        phase = Phase.RECOVER
        promise = EXACT

        def apply(self, model, context) -> Outcome: ...

A pass changes the model in place and says how often; what it left alone, and why, it returns as
refusals. It does not verify itself: the pipeline holds it to its promise, and rolls it back.
"""

from __future__ import annotations

import abc
import enum
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from burnish.optimizer.caches import Cache
from burnish.optimizer.pruned import Pruned
from burnish.optimizer.renumbering import Renumbering
from burnish.optimizer.sandbox import Limits
from burnish.optimizer.static_caches import StaticCache
from burnish.optimizer.undefined import Undefined

if TYPE_CHECKING:
    from burnish.optimizer.activations import Activations

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]
"""Inputs or outputs of one run, by name."""


class Phase(enum.Enum):
    """The stages of the compiler, in order."""

    RECOVER = "recover"
    RESTRUCTURE = "restructure"
    COMPRESS = "compress"
    LOWER = "lower"


class Kind(enum.Enum):
    """How strong a promise is."""

    EXACT = "exact"
    ROUNDING = "rounding"
    LOSSY = "lossy"


@dataclass(frozen=True)
class Promise:
    """What a pass guarantees of every value that it changes.

    Attributes:
        kind: `exact` (same arithmetic), `rounding` (same function) or `lossy` (spends the budget).
        rel_l2: bound on the relative L2 error, at the region that was changed.
    """

    kind: Kind
    rel_l2: float


EXACT = Promise(Kind.EXACT, 0.0)
ROUNDING = Promise(Kind.ROUNDING, 2e-5)
LOSSY = Promise(Kind.LOSSY, 0.25)


@dataclass(frozen=True)
class Refusal:
    """A place that a pass left alone, and why."""

    node: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What a pass did.

    Attributes:
        rewrites: how many places it changed; 0 means that the graph is untouched.
        refusals: the places it left alone although they are of its kind.
        speedup: measured gain of what it changed, where the pass chose by measuring.
        detail: one phrase for the report ("folded 12 constants").
        times: milliseconds of the places it takes, before and after, by the value they give.
        undefined: elements of outputs that have a fixed value by definition, and count for nothing.
        caches: ports that are integers in the artifact.
        static: caches whose new positions alone are handed over in the artifact.
        renumbering: token ids have other numbers in the artifact.
        hidden: values that it scaled, in order, with later ones that their error shows in.
        lengths: sequences longer than these take another way through the graph.
        pruned: what is left of heads and hidden channels.
    """

    rewrites: int = 0
    refusals: tuple[Refusal, ...] = ()
    speedup: float | None = None
    detail: str = ""
    undefined: tuple[Undefined, ...] = ()
    times: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    caches: tuple[Cache, ...] = ()
    static: tuple[StaticCache, ...] = ()
    renumbering: Renumbering | None = None
    hidden: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lengths: tuple[int, ...] = ()
    pruned: tuple[Pruned, ...] = ()


@dataclass(frozen=True)
class Choice:
    """The form that measured fastest, and its gain over the first form (time ratio).

    `ms` is a run of the first form in milliseconds; 0 where that is not known. `facts` is what else
    is worth remembering of what was measured, as JSON takes it.
    """

    winner: str
    speedup: float
    measured: bool
    ms: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)


class Chooser(Protocol):
    """Chooses among equivalent forms of one region by measuring them.

    The first form is the baseline, kept where nothing beats it. `key` identifies the region
    (operator, sizes) in the tuning record; `rule` is the form to take where measuring is off.
    """

    def __call__(
        self, key: str, forms: Mapping[str, Callable[[], onnx.ModelProto]], rule: str
    ) -> Choice: ...


@dataclass(frozen=True)
class Observation:
    """What a value of the main graph was over the feeds.

    Attributes:
        least, largest: of each channel of the last axis, [channels].
        rows: some of its rows along that axis, [rows, channels]; of real tokens, as far as masks
            tell. None where the feeds are made up, and rows of them say nothing of real ones.
    """

    least: Array
    largest: Array
    rows: Array | None = None


class Observer(Protocol):
    """Observes values of the main graph over the feeds, by name; none where that fails.

    Attributes:
        real: whether the feeds are the user's data.
    """

    @property
    def real(self) -> bool: ...

    def __call__(
        self, model: ir.Model, names: Sequence[str], *, fresh: bool = False
    ) -> dict[str, Observation]:
        """Of the model as it is; `fresh`: also where values had these names in another model."""


@dataclass(frozen=True)
class Context:
    """What a pass may know of its surroundings.

    Attributes:
        provider: the provider the model is lowered for ("cpu", "cuda").
        limits: for work that a pass hands to a child.
        sizes: element counts by symbolic dimension, as the tuner and the timing use them.
        choose: see `Chooser`; a rule where measuring is off.
        saturating: whether the target adds two products of uint8 and int8 in 16 bits.
        shapes: of values by name at `sizes`, as far as inference can tell.
        observe: see `Observer`; None where the model is not run.
        activations: runs parts of models on all of the user's data; None where there is none.
        memo: what passes have computed and may need again: they run more than once on a model.
    """

    provider: str
    limits: Limits
    sizes: Mapping[str, int]
    choose: Chooser
    saturating: bool = False
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    observe: Observer | None = None
    activations: Activations | None = None
    memo: dict[Hashable, Any] = field(default_factory=dict)


class Pass(abc.ABC):
    """One rewrite of the graph; subclasses are frozen dataclasses whose fields are options."""

    name: ClassVar[str]
    phase: ClassVar[Phase]
    promise: ClassVar[Promise]
    asked: ClassVar[bool] = False
    """Whether it runs only where the user asks for it, and owes a word where it does nothing."""

    lasting: ClassVar[bool] = False
    """Whether it stays where the model is slower with it, since it was asked for something else."""

    @abc.abstractmethod
    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite `model` in place and say what was done."""

    def options(self) -> dict[str, Any]:
        """The options by name, as the report and the digest show them."""
        return {option.name: getattr(self, option.name) for option in fields(self)}  # type: ignore[arg-type]


class Sparing(Pass):
    """A compression whose options `keep` and `finer` name places that it is gentler to."""

    finer_lookups: ClassVar[bool] = False
    """Whether there is a finer form of what is read from tables."""

    kept_is: ClassVar[str] = "float32"  # what the places in `keep` have, in words

    @property
    def finer_is(self) -> str:
        """What the places in `finer` get, in words; empty where there is no such form."""
        return ""


UNBOUNDED = 1e30
"""Magnitude from which a number stands for infinity, as in additive masks."""

OUTLYING = 1e4
"""Magnitude from which the small elements beside it are compared by themselves."""


def relative_l2(reference: Array, candidate: Array) -> float:
    """‖candidate - reference‖ / ‖reference‖ over the elements that the reference defines.

    Elements where the reference is NaN have no defined answer and are not compared. Infinite
    elements must agree, and so must those that stand for infinity (`UNBOUNDED`, or the largest of
    a short type); a NaN that only the candidate has is an infinite error. Where some elements
    are so large that an error of the others would drown, the others are compared by themselves.
    """
    if reference.shape != candidate.shape:
        return float("inf")
    if reference.size == 0:
        return 0.0
    if reference.dtype.kind == "c":
        parts = [(reference.real, candidate.real), (reference.imag, candidate.imag)]
        return max(relative_l2(mine, theirs) for mine, theirs in parts)
    if not _is_float(reference.dtype):
        return 0.0 if np.array_equal(reference, candidate) else float("inf")
    short = reference.dtype == np.float16
    bound = 0.9 * float(np.finfo(np.float16).max) if short else UNBOUNDED
    exact, other = reference.astype(np.float64), candidate.astype(np.float64)
    defined = ~np.isnan(exact)
    exact, other = exact[defined], other[defined]
    unbounded = np.abs(exact) >= bound
    agree = (np.sign(other) == np.sign(exact)) & (np.abs(other) >= bound)
    if np.isnan(other).any() or not agree[unbounded].all():
        return float("inf")
    exact, other = exact[~unbounded], other[~unbounded]
    if not np.isfinite(other).all():
        return float("inf")
    small = np.abs(exact) <= 1e-3 * np.abs(exact).max(initial=0.0)
    if np.abs(exact).max(initial=0.0) >= OUTLYING and small.any():
        return max(_ratio(exact, other), _ratio(exact[small], other[small]))
    return _ratio(exact, other)


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or "float" in dtype.name  # bfloat16 and float8 are of kind V


def _ratio(exact: Array, other: Array) -> float:
    error, norm = float(np.linalg.norm(other - exact)), float(np.linalg.norm(exact))
    return error / norm if norm else (0.0 if error == 0.0 else float("inf"))

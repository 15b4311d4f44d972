"""What every job on a model needs: the model, a scratch space, feeds that it accepts."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from burnish.driver import vocabulary
from burnish.driver.caveats import caveats
from burnish.driver.request import Request
from burnish.optimizer import artifact, feeds, roles, sandbox, tuner, user_data
from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.costs.products import matrix_flops
from burnish.optimizer.contract import Chooser, Context, Feeds, Observer
from burnish.optimizer.errors import UnsupportedModel, UsageError
from burnish.optimizer.executor import Executor, Job
from burnish.optimizer.fidelity import is_distribution
from burnish.optimizer.measure import Contest
from burnish.optimizer.model import Loaded, load, weight_bytes, without_weights
from burnish.optimizer.standing import Standing
from burnish.optimizer.verify import STRUCTURE_ABOVE
from burnish.runtimes.arrays import read_arrays, write_arrays
from burnish.runtimes.providers import PROVIDERS, REFERENCE, version
from burnish.runtimes.targets import target_of

Emit = Callable[[dict[str, Any]], None]
Shapes = dict[str, tuple[int, ...]]

EXECUTOR = "burnish.runtimes.work:executor"
STOPWATCH = "burnish.runtimes.work:stopwatch"

TIMING_FLOPS = 4e11
"""Work of one run past which the whole model is not timed (about 2 s on two cores)."""

TIMING_BYTES = 2_000_000_000
"""Weights past which the whole model is not timed: loading it would take most of the run."""

CHECKING_FLOPS = 4e12
"""Work of one run past which long inputs are not checked."""

SHORTER = (64, 32, 16, 8)
"""Lengths to try for timing where the model does not take the default."""

MADE_UP_PADDING = 0.5
"""Share of padding that `--pack` is timed with where there is no data to say."""

WHOLE_MODEL_FACTOR = 4
"""Memory to run a model, in multiples of its weights: loaded, prepacked, and as a message."""


@dataclass
class Workbench:
    """A model laid out for work.

    Attributes:
        loaded: the model and what its file was.
        slots: its inputs with their roles; empty where values cannot be made up for them.
        warnings: what the report should say besides.
        sequence: length for timing, once `settle` has found it.
        found: sizes that were looked for since the model takes no usual ones.
        padding: share of the user's tokens that is padding.
        untimed: why the whole model is not timed; empty where it is.
        memo: see `contract.Context`.
    """

    request: Request
    loaded: Loaded
    executor: Executor
    emit: Emit
    slots: list[roles.Slot]
    warnings: list[str] = field(default_factory=list)
    sequence: int = 0
    found: dict[str, int] = field(default_factory=dict)
    padding: float = 0.0
    untimed: str = ""
    memo: dict[Hashable, Any] = field(default_factory=dict)
    _shapes: tuple[dict[str, int], Shapes] | None = None

    @property
    def limits(self) -> sandbox.Limits:
        """Limits for children of this process."""
        return self.request.limits

    @property
    def tokenizer(self) -> Path:
        """The user's `tokenizer.json`, or where that of the model would be."""
        beside = artifact.companion(self.loaded.path, user_data.TOKENIZER)
        return Path(self.request.tokenizer or beside)

    def accept(self) -> None:
        """Raise UnsupportedModel where ONNX Runtime does not accept the graph, or the provider."""
        light = without_weights(self.loaded.model, above=STRUCTURE_ABOVE)
        folder = self.executor.folder()
        path = folder / "light.onnx"
        path.write_bytes(light.SerializeToString())
        jobs = [Job(path, [], folder)]
        if (provider := self.request.provider) != REFERENCE:
            # Other runtimes want constants where ONNX Runtime takes what is only known in a run.
            same = PROVIDERS[provider].runtime == PROVIDERS[REFERENCE].runtime
            file = path if same else self.loaded.path
            jobs.append(Job(file, [], folder, provider=provider))
        for report in self.executor.run(jobs):
            if report["error"]:
                message = report["error"].removeprefix("error: ")
                raise UnsupportedModel(message, hint=report.get("hint", ""))

    def fits(self) -> bool:
        """Whether running the whole model stays within the memory limit."""
        return weight_bytes(self.loaded.model) * WHOLE_MODEL_FACTOR < self.limits.memory

    def candidates(self) -> tuple[user_data.Data, str]:
        """Feeds to try, and what the report calls them."""
        if self.request.data:
            data = Path(self.request.data)
            given = user_data.read(data, self.slots, self.tokenizer)
            self.padding = feeds.padding(given.feeds, self.slots)
            if self.request.window:
                self._doubt_window(given.feeds)
            return given, f"on {data.name}"
        made = self.made_up()
        if self.request.window:
            made += self._long(2 * self.request.window)
        return user_data.Data.alike(made), "on made-up inputs"

    def _doubt_window(self, given: Sequence[Feeds]) -> None:
        """Say where no text is long enough for a window to matter."""
        names = [slot.port.name for slot in self.slots if slot.role is roles.Role.IDS]
        longest = max((feed[name].shape[-1] for feed in given for name in names), default=0)
        if longest <= self.request.window // 2:
            self.warnings.append(
                f"no input of the data is longer than {longest} tokens: what a window of "
                f"{self.request.window} loses was not seen"
            )

    def made_up(self) -> list[Feeds]:
        """Feeds that find faults, of several sizes, but for those that `_find_sizes` fixed."""
        return [feed for _, feed in feeds.trials(self.slots, self.request.seed, self.found)]

    def probes(self) -> list[Path]:
        """Made-up feeds for what the user's data may not show; much padding where it is packed."""
        wanted = self.slots and (self.request.data or self.request.pack)
        made = self.made_up() if wanted else []
        half = made[:2] if self.request.pack else []
        padded = (feeds.pad(feed, self.slots, feeds.MUCH_PADDING) for feed in half)
        return self.executor.store([*(made if self.request.data else []), *padded])

    def longer(self, length: int) -> list[Path]:
        """Feeds of more than so many tokens, padded on either side; none where that costs much."""
        length += length // 4 + 5
        sizes = self.sizes() | {"batch": 2, "sequence": length}
        sizes |= feeds.Sizes(2, length).assign(tuple(slot.port for slot in self.slots))
        inferred = shapes.infer(self.loaded.model, sizes)
        flops = sum(matrix_flops(self.loaded.model, inferred).values())
        if flops > CHECKING_FLOPS:
            self.warnings.append(
                f"what runs on {length} tokens was not checked: that is {flops / 1e9:.0f} GFLOP"
            )
            return []
        return self.executor.store(self._long(length))

    def _long(self, length: int) -> list[Feeds]:
        """Two sequences of a length, the one or the other padded on either side."""
        return [
            feeds.make(self.slots, feeds.Sizes(2, length), masking, self.request.seed, self.found)
            for masking in (feeds.Masking.RIGHT, feeds.Masking.LEFT)
        ]

    def sizes(self) -> dict[str, int]:
        """A size for every symbolic dimension, the user's first; batch and sequence always."""
        chosen = self._chosen_sizes()
        ports = tuple(slot.port for slot in self.slots)
        known = chosen.assign(ports)
        asked = self.found | dict(self.request.shape)
        known |= {name: size for name, size in asked.items() if name in known}
        return {"batch": chosen.batch, "sequence": chosen.sequence, **known}

    def shapes(self) -> Shapes:
        """Shapes of the model's values by name, at the sizes of `sizes`."""
        sizes = self.sizes()
        if self._shapes is None or self._shapes[0] != sizes:
            self._shapes = (sizes, shapes.infer(self.loaded.model, sizes))
        return self._shapes[1]

    def context(self, choose: Chooser, observe: Observer | None = None) -> Context:
        """What passes may know of this model's surroundings."""
        return Context(
            provider=self.request.provider,
            limits=self.limits,
            sizes=self.sizes(),
            choose=choose,
            saturating=target_of(self.request.target_cpu).saturating,
            shapes=self.shapes(),
            observe=observe,
            memo=self.memo,
        )

    def _chosen_sizes(self) -> feeds.Sizes:
        chosen = feeds.default_sizes(self.slots)
        generic = ("batch", "sequence", "past", "image")
        known = shapes.symbols(tuple(slot.port for slot in self.slots))
        for name in self.request.shape:
            if name not in (*generic, *known):
                named = ", ".join(dict.fromkeys((*generic, *known)))
                raise UsageError(f"--shape: there is no dimension {name} (there are {named})")
        settled = {"sequence": self.sequence} if self.sequence else {}
        asked = settled | self.found | dict(self.request.shape)
        return replace(chosen, **{name: asked[name] for name in generic if name in asked})

    def settle(self) -> None:
        """Find a length for timing that the model accepts: the default, or else a shorter one."""
        folder = self.executor.folder()
        reason = ""
        default = self._chosen_sizes().sequence
        for self.sequence in (default, *(size for size in SHORTER if size < default)):
            feed = self.executor.store([self.timing_feed()])[0]
            outcome = self.executor.run([Job(self.loaded.path, [[feed]], folder)])[0]
            if not outcome["failed"]:
                if self.sequence != default:
                    self.warnings.append(
                        f"it does not run at length {default}: sizes for timing are shorter"
                    )
                return
            reason = reason or str(next(iter(outcome["failed"].values())))
        self.sequence = default
        self.untimed = f"it does not run at the sizes tried ({reason}); --shape gives others"

    def timing_feed(self) -> Feeds:
        """One feed at the sizes of `sizes`: full, but padded where packing is to be timed."""
        feed = feeds.make(
            self.slots, self._chosen_sizes(), feeds.Masking.FULL, self.request.seed, self.sizes()
        )
        share = self.padding if self.request.data else MADE_UP_PADDING
        return feeds.pad(feed, self.slots, share) if self.request.pack else feed

    def too_costly(self) -> str:
        """Why the whole model is too costly to be timed here; empty where it is not."""
        size = weight_bytes(self.loaded.model)
        if size > TIMING_BYTES or not self.fits():
            return f"it has {size / 1e9:.1f} GB of weights; `optimize bench` does it"
        flops = sum(matrix_flops(self.loaded.model, self.shapes()).values())
        if flops > TIMING_FLOPS:
            return f"one run is {flops / 1e9:.0f} GFLOP; `optimize bench` does it"
        return ""

    def machine(self) -> str:
        """What, besides the model, times depend on."""
        name, _ = tuner.processor()
        provider = self.request.provider
        return f"{name}, {self.request.threads_used} threads, {provider}, {version(provider)}"

    def contest(self, *, undisturbed: bool = False) -> Contest:
        """Processes for timing on the request's provider and threads; see `Contest`."""
        provider, threads = self.request.provider, self.request.threads
        return Contest(
            STOPWATCH, self.limits, provider=provider, threads=threads, undisturbed=undisturbed,
            turn=self.request.turn,
        )  # fmt: skip

    def distributions(self) -> set[str]:
        """Names of outputs whose last axis holds scores of classes."""
        graph = self.loaded.model.graph
        return {value.name or "" for value in graph.outputs if is_distribution(value)}


@contextlib.contextmanager
def open_model(request: Request, emit: Emit, scratch: Path | None = None) -> Iterator[Workbench]:
    """Load the request's model onto a workbench; `scratch` is where large files may go."""
    loaded = load(Path(request.model))
    with (
        tempfile.TemporaryDirectory(dir=scratch, prefix="burnish-") as folder,
        Standing(EXECUTOR, request.limits) as child,
    ):
        executor = Executor(
            Path(folder),
            lambda argument: child.ask(argument | {"threads": request.threads}),
            read_arrays,
            write_arrays,
        )
        slots = _slots(loaded.model, required=request.check or request.measure)
        if request.vocabulary:
            slots = vocabulary.narrowed(slots, vocabulary.chosen(request.vocabulary))
        yield Workbench(request, loaded, executor, emit, slots, caveats(loaded, request))


def _slots(model: ir.Model, *, required: bool) -> list[roles.Slot]:
    try:
        return roles.slots(model)
    except UnsupportedModel:
        if required:
            raise
        return []

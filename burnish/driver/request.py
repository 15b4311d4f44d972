"""What goes into a compilation: a Request, and which ones contradict themselves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import onnx

from burnish import report
from burnish.driver import goals, masking
from burnish.driver.prunable import validate_pruning
from burnish.optimizer import sandbox
from burnish.optimizer.contract import Kind
from burnish.optimizer.errors import UsageError
from burnish.optimizer.sandbox import Limits
from burnish.passes.recover.raise_opset import LEAST
from burnish.passes.restructure.pack import Pack
from burnish.runtimes.providers import AUTO, PROVIDERS, REFERENCE
from burnish.runtimes.targets import NATIVE, TARGETS

LEVELS = {Kind.EXACT: 1, Kind.ROUNDING: 2, Kind.LOSSY: 2}
"""Least -O level by the kind of promise."""

PRECISIONS = ("int8", "int4", "int8_weights", "fp16", "bf16")
"""Options that ask for a smaller function."""

INT8, STATIC = "int8", "static"
"""Ways to hand caches on."""

WALL_SECONDS = 4 * 3600.0
"""Time limit of a compilation where the user sets none."""


@dataclass(frozen=True)
class Request:
    """What the user asks for; see DESIGN's command line for the meaning of each option.

    Attributes:
        model: path of the input.
        output: path of the artifact; None for the default beside the input.
        level: 0 to 3, as `-O`.
        shape: sizes of symbolic dimensions for tuning and timing.
        opset: the artifact's operator set is raised to this.
        min_ort: release of ONNX Runtime that the artifact must run on ("1.17").
        int8, int4, int8_weights, fp16, bf16: the precision, at most one of them: products in
            int8; weights in 4 or in 8 bits, in blocks; float16 or bfloat16 where it holds the
            values.
        auto_precision: the fastest of these, and of float32, within the budget.
        points: also write the others that none is better than in time, size and fidelity.
        speedup: to be reached; with data and no way to it named, what `driver.goals` searches for.
        static: int8 may fix the ranges of activations, from `data`.
        force: few bits also where they are slower, for their size.
        provider: a row of `runtimes.providers`, or "auto" for the fastest of those that start.
        target_cpu: a row of `runtimes.targets`, or "native" for the processor at hand.
        pack: run token-wise layers on real tokens only; padded rows of outputs become zero.
        kv_cache: "int8" to hand caches on in that, "static" for a fixed capacity; ports change.
        fast_gelu: GELU by the tanh formula.
        languages, corpus, keep_tokens, keep_ids, min_coverage: which tokens to keep; `vocabulary`
            is a file that the driver makes of that. See `driver.vocabulary`.
        window: keys that a query sees in attentions that get a window; 0 for none.
        global_tokens: so many tokens at the start are seen by all and see all, beside a window.
        layers: numbers of the attentions that get one; empty for all.
        prune: share of the layers' operations that goes ("0.3"), or "auto"; None for none.
        importance: what says which units go; see `driver.prunable`.
        low_rank: weights as products of two where that is faster.
        sparsity, mask: weights that become zero (`0.5`, `2:4`), and how they are chosen.
        sparse_storage: weights with many zeros are stored by the other elements.
        json, html: where the report will be written, as data and to be looked at.
        profile: also measure the model after each pass, and its kernels, for such a report.
        task: what a checkpoint's model is for; None for what its configuration says.
        allow_pickle, trust_remote_code: its weights may be pickles; code with it may run.
        memory_limit, time_limit: bytes and seconds, for the whole tree of processes.
        turn: a file that the driver gives to compilations side by side; see `optimizer.turns`.
    """

    model: str
    output: str | None = None
    int8: bool = False
    int4: bool = False
    int8_weights: bool = False
    fp16: bool = False
    bf16: bool = False
    auto_precision: bool = False
    points: bool = False
    static: bool = False
    keep_embeddings: bool = False
    level: int = 2
    provider: str = "cpu"
    target_cpu: str = NATIVE
    data: str | None = None
    tokenizer: str | None = None
    max_drop: float = 0.01
    speedup: float | None = None
    shape: Mapping[str, int] = field(default_factory=dict)
    threads: int = 0
    seed: int = 0
    memory_limit: int | None = None
    time_limit: float | None = None
    tuning: str | None = None
    check: bool = True
    measure: bool = True
    dry_run: bool = False
    opset: int | None = None
    min_ort: str | None = None
    force: bool = False
    pack: bool = False
    kv_cache: str | None = None
    fast_gelu: bool = False
    languages: Sequence[str] = ()
    corpus: str | None = None
    keep_tokens: str | None = None
    keep_ids: bool = False
    min_coverage: float = 0.9
    vocabulary: str | None = None
    window: int = 0
    global_tokens: int = 0
    layers: Sequence[int] = ()
    prune: str | None = None
    importance: str | None = None
    low_rank: bool = False
    sparsity: str | None = None
    mask: str | None = None
    sparse_storage: bool = False
    json: str | None = None
    html: str | None = None
    profile: bool = False
    task: str | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False
    turn: str | None = None

    @property
    def target(self) -> Path:
        """Where the artifact goes."""
        if self.output:
            return Path(self.output)
        source = Path(self.model)
        kind = self.precision or ("auto" if self.auto_precision else "opt")
        return source.with_name(f"{source.name.removesuffix('.onnx')}.{kind}.onnx")

    @property
    def precision(self) -> str:
        """The precision that is asked for, as the command line calls it; empty for none."""
        asked = [name.replace("_", "-") for name in PRECISIONS if getattr(self, name)]
        return " and ".join(asked)

    @property
    def weight_bits(self) -> int:
        """Bits of weights in blocks; 0 where there are none."""
        by_provider = self.int8 and self.int8_kind == "weights"
        return 4 if self.int4 else 8 if self.int8_weights or by_provider else 0

    @property
    def int8_kind(self) -> str:
        """What int8 means for the provider; see `runtimes.providers`."""
        return PROVIDERS[self.provider].int8 if self.provider in PROVIDERS else ""

    @property
    def limits(self) -> Limits:
        """Limits of the compilation's tree of processes."""
        memory = self.memory_limit or sandbox.default_memory()
        return Limits(memory, self.time_limit or WALL_SECONDS)

    @property
    def threads_used(self) -> int:
        """Threads that a session uses."""
        if self.threads or not hasattr(os, "sched_getaffinity"):
            return self.threads or os.cpu_count() or 1
        return len(os.sched_getaffinity(0))


def request_from(argument: Mapping[str, Any]) -> Request:
    """The request that crossed the process boundary."""
    names = {option.name for option in fields(Request)}
    return Request(**{key: value for key, value in argument.items() if key in names})


def validate(request: Request) -> None:
    """Raise where options contradict each other, before any work is done."""
    validate_provider(request)
    _validate_target(request)
    if " and " in request.precision or (request.precision and request.auto_precision):
        also = " and --precision auto" * request.auto_precision
        raise UsageError(f"{request.precision}{also} exclude each other")
    if request.auto_precision and request.provider == AUTO:
        raise UsageError("--precision auto needs one provider", hint="--provider cpu")
    goals.validate(request)
    if request.auto_precision and not request.check:
        raise UsageError("--precision auto needs the comparisons that --no-check skips")
    _validate_ranges(request)
    newest = onnx.defs.onnx_opset_version()
    if request.opset is not None and not LEAST <= request.opset <= newest:
        raise UsageError(f"operator set {request.opset} cannot be written: {LEAST} to {newest} can")
    if not Path(request.model).name:
        raise UsageError("no model is named")
    source, target = Path(request.model), request.target
    # os.path: names that no file can have are absent, not an error.
    if os.path.exists(source) and os.path.exists(target) and os.path.samefile(source, target):
        raise UsageError("the output would overwrite the input", hint="another -o")
    for option, name in (("--json", request.json), ("--html", request.html)):
        if name is not None and (option, name) != ("--json", "-"):
            _validate_report(Path(name), option, source, target)
    if request.html is not None:
        report.require("--html")
        if request.json is not None and Path(request.json) == Path(request.html):
            raise UsageError("--json and --html name the same file")
    if request.pack and request.level < LEVELS[Pack.promise.kind]:
        raise UsageError(f"--pack rounds, which -O{request.level} rules out", hint="-O2")
    if request.kv_cache is not None:
        _validate_cache(request)
    validate_pruning(request)
    if (request.global_tokens or request.layers) and not request.window:
        raise UsageError("--global-tokens and --layers are those of a window", hint="--window 128")
    masking.validate(request.sparsity, request.mask, runs=bool(request.data) and request.check)
    if request.speedup is not None and not request.measure:
        raise UsageError("--speedup needs the times that --no-measure skips")
    if not target.parent.is_dir():
        raise UsageError(f"folder {target.parent} does not exist", hint="creating it")
    if target.is_dir():
        raise UsageError(f"the output {target} is a folder", hint="-o FILE.onnx")


def _validate_cache(request: Request) -> None:
    """Raise where caches cannot be handed on as is asked for."""
    if request.kv_cache not in (INT8, STATIC):
        raise UsageError(f"--kv-cache {request.kv_cache} is not known", hint="int8 or static")
    needed = "--kv-cache int8 needs"
    if request.kv_cache == INT8 and not request.data:
        raise UsageError(f"{needed} --data: the range of each channel is what the cache holds")
    if request.kv_cache == INT8 and not request.check:
        raise UsageError(f"{needed} the runs of the model that --no-check skips")


def validate_provider(request: Request, *, auto: bool = True) -> None:
    """Raise where the provider is none of the table's, or stands for several but may not."""
    names = [*PROVIDERS, *([AUTO] if auto else [])]
    if request.provider not in names:
        known = f"{', '.join(names[:-1])} or {names[-1]}"
        raise UsageError(f"provider {request.provider} is not known here", hint=known)


def _validate_ranges(request: Request) -> None:
    """Raise where ranges of activations would be fixed that nothing is known of."""
    if request.static and not (request.int8 or request.auto_precision):
        raise UsageError("--static fixes ranges of int8", hint="--int8 --static")
    if request.static and request.int8_kind == "weights":
        raise UsageError(f"--static fixes ranges, and int8 for {request.provider} has none to fix")
    pairs = request.int8 and request.int8_kind == "qdq"
    if not (request.static or pairs):
        return
    asked = "--static" if request.static else f"int8 for {request.provider}"
    if request.data is None:
        raise UsageError(
            f"{asked} fixes ranges of activations, which made-up inputs do not show",
            hint="--data PATH",
        )
    if not request.check:
        raise UsageError(f"{asked} needs the runs that --no-check skips")


def _validate_target(request: Request) -> None:
    """Raise where the target is none of the table's, or needs what this machine cannot give."""
    name = request.target_cpu
    if name != NATIVE and name not in TARGETS:
        raise UsageError(f"target {name} is not known", hint=", ".join([NATIVE, *TARGETS]))
    if name == NATIVE:
        return
    if request.provider != REFERENCE:
        raise UsageError(f"--target {name} is for --provider {REFERENCE}, not {request.provider}")
    for asked, option in (
        (request.speedup is not None, "--speedup"),
        (request.auto_precision, "--precision auto"),
    ):
        if asked:
            raise UsageError(
                f"{option} needs times, which this machine cannot take for {name}",
                hint="--target native there",
            )


def _validate_report(path: Path, option: str, source: Path, target: Path) -> None:
    """Raise where the report could not be written, or would take the place of a model."""
    if not path.parent.is_dir():
        raise UsageError(f"folder {path.parent} of the report does not exist")
    if path.is_dir():
        raise UsageError(f"the report {path} is a folder", hint=f"{option} FILE")
    if path.absolute() in (source.absolute(), target.absolute()):
        raise UsageError(f"the report would overwrite {path}", hint=f"another {option}")

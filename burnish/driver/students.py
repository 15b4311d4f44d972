"""Distillation, from the caller's side: what is asked for, and the child that does it."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from burnish.driver import checkpoints
from burnish.driver.narration import Progress, narrated, record
from burnish.driver.request import Request
from burnish.driver.result import Result
from burnish.optimizer import artifact, sandbox
from burnish.optimizer.errors import UsageError

JOB = "burnish.driver.distillation:distil_model"
EXPORT = "burnish.driver.exporting:export_checkpoint"

SPARE = 3600.0
"""Seconds beyond those of training that the job may take by default."""

KEYS = ("layers", "heads", "channels")

ADAMW, MUON = "adamw", "muon"
"""Optimizers."""


@dataclass(frozen=True)
class Distilling:
    """What is asked of a distillation.

    Attributes:
        student: a model file, or what is kept of the teacher: `layers=2,heads=4,channels=0.5`.
        steps, minutes: how long; 0 for what the other one says.
        rate, batch, patience: see `training.distilling.Schedule`; texts of a batch.
        logits, hidden, relations, temperature: see `training.losses.Weights`.
        longest: pieces of a text past which it is cut; 0 for what the model says.
        resume: go on where the checkpoint is.
        optimizer: `adamw`, or `muon`, which trains matrices inside (see `training.muon`).
    """

    student: str
    steps: int = 0
    minutes: float = 0.0
    rate: float = 5e-4
    batch: int = 32
    patience: int = 10
    logits: float = 1.0
    hidden: float = 1.0
    relations: float = 1.0
    temperature: float = 2.0
    longest: int = 0
    resume: bool = False
    optimizer: str = ADAMW


def target_of(request: Request) -> Path:
    """Where the student goes."""
    if request.output:
        return Path(request.output)
    name = Path(request.model).name.removesuffix(".onnx")
    folder = Path(request.model).parent if request.model.endswith(".onnx") else Path()
    return folder / f"{name}.student.onnx"


def checkpoint_of(target: Path) -> Path:
    """Where it is written how far the training of a student is."""
    return target.with_name(f"{target.name}.training.npz")


def kept_of(spec: str) -> dict[str, float]:
    """What a student keeps of its teacher, by kind; empty where the text names no kind.

    Raises:
        UsageError: it names one in a way that means nothing.
    """
    pairs = [item.partition("=")[::2] for item in spec.split(",")]
    if not any(key.strip() in KEYS for key, _ in pairs):
        return {}
    found = {}
    for key, text in pairs:
        name = key.strip()
        try:
            number = float(text)
            whole = name != "channels" and number == int(number) and number >= 1
            if name not in KEYS or not (whole or (name == "channels" and 0 < number <= 1)):
                raise ValueError(text)
        except (ValueError, OverflowError):
            told = f"--student: {key}={text} means nothing" if text else f"--student: {key} alone"
            raise UsageError(told, hint="layers=2,heads=4,channels=0.5") from None
        found[name] = number
    return found


def validate(request: Request, asked: Distilling) -> None:
    """Raise where what is asked for means nothing, before any work is done.

    Raises:
        UsageError: see above.
    """
    if not request.data:
        raise UsageError("a student learns from texts; labels are not needed", hint="--data FILE")
    if not (asked.steps or asked.minutes):
        raise UsageError("there is no end to the training", hint="--minutes 10 or --steps 2000")
    if not (asked.logits or asked.hidden or asked.relations):
        raise UsageError("every loss has the weight 0", hint="--logits 1")
    if asked.optimizer not in (ADAMW, MUON):
        told = f"--optimizer {asked.optimizer} is neither {ADAMW} nor {MUON}"
        raise UsageError(told, hint=f"--optimizer {MUON}")
    if not kept_of(asked.student) and not os.path.exists(asked.student):
        told = f"--student {asked.student} is no file, nor says what to keep"
        raise UsageError(told, hint="layers=2,heads=4,channels=0.5")
    target = target_of(request)
    if not target.parent.is_dir():
        raise UsageError(f"folder {target.parent} does not exist", hint="creating it")
    if target.is_dir():
        raise UsageError(f"the output {target} is a folder", hint="-o FILE.onnx")
    for path in (request.model, asked.student):
        if os.path.exists(path) and os.path.exists(target) and os.path.samefile(path, target):
            raise UsageError("the output would overwrite the input", hint="another -o")


def distill(request: Request, asked: Distilling, progress: Progress | None = None) -> Result:
    """Train a student in a sandboxed child, which an interrupt ends with the best so far.

    Raises:
        BurnishError: see the tree in `optimizer.errors`.
    """
    validate(request, asked)
    target = target_of(request)
    with artifact.staging(target) as folder, _graph(request, progress) as (teacher, about):
        wanted = replace(request, model=teacher, output=str(target))
        if not wanted.tokenizer and "tokenizer" in about:
            wanted = replace(wanted, tokenizer=about["tokenizer"])
        argument = {"staging": str(folder), "distilling": asdict(asked)}
        limit = request.time_limit or max(request.limits.wall, 60 * asked.minutes + SPARE)
        wanted = replace(wanted, time_limit=limit)
        report = _supervised(JOB, asdict(wanted) | argument, wanted, progress)
    report["teacher"]["path"] = request.model
    return Result(report, Path(report["output"]["path"]))


@contextlib.contextmanager
def _graph(request: Request, progress: Progress | None) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The teacher as one graph: a file, that of an artifact, or a checkpoint's export."""
    folder = Path(request.model)
    if not checkpoints.is_checkpoint(request.model) or artifact.is_folder(folder):
        yield artifact.graph_of(request.model), {}
        return
    with tempfile.TemporaryDirectory(prefix="burnish-") as name:
        order = {
            "checkpoint": request.model, "task": request.task, "folder": name,
            "allow_pickle": request.allow_pickle, "trust_code": request.trust_remote_code,
        }  # fmt: skip
        facts = _supervised(EXPORT, order, request, progress)
        if len(facts["parts"]) != 1:
            parts = " and ".join(facts["parts"])
            raise UsageError(
                f"a checkpoint of several graphs ({parts})", hint="one of them, as .onnx"
            )
        part = facts["parts"][0]
        tokenizer = Path(name) / "tokenizer.json"
        yield (
            str(Path(name) / part / f"{part}.onnx"),
            ({"tokenizer": str(tokenizer)} if tokenizer.exists() else {}),
        )


def _supervised(
    job: str, argument: dict[str, Any], request: Request, progress: Progress | None
) -> dict[str, Any]:
    limits = request.limits
    argument |= {"memory_limit": limits.memory, "time_limit": limits.wall}
    with sandbox.Worker(job, argument, limits, narrated(progress)) as worker:
        with _handed_on(worker.pid):
            report = worker.result()
        report.setdefault("memory", {})["compile_peak_rss_bytes"] = worker.peak_memory
    record(report)
    return report


@contextlib.contextmanager
def _handed_on(child: int) -> Iterator[None]:
    """The first interrupt is the child's, which ends with what it has; a second one is ours."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def hand_on(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGINT)

    signal.signal(signal.SIGINT, hand_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

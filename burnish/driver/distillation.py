"""One distillation, inside its sandboxed child: recover, check, train, check, publish, report."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from burnish import __version__
from burnish.driver import recovery, student_cuts
from burnish.driver.request import Request, request_from
from burnish.driver.students import MUON, Distilling, checkpoint_of, kept_of
from burnish.driver.workbench import Emit, Workbench, open_model
from burnish.optimizer import artifact, report, tuner
from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.stream import Stream, stream_of
from burnish.optimizer.contract import Feeds, relative_l2
from burnish.optimizer.digests import digest_file
from burnish.optimizer.errors import UnsupportedModel, UsageError, about
from burnish.optimizer.executor import Job
from burnish.optimizer.feeds import is_padding_mask
from burnish.optimizer.fidelity import is_distribution
from burnish.runtimes.providers import REFERENCE, versions

if TYPE_CHECKING:
    from burnish.training.distilling import Distillation
    from burnish.training.network import Network
    from burnish.training.taps import Taps

INTERRUPTED = "interrupted"
"""How a training ended that may be gone on with."""

TOLERANCE = 1e-4
"""Relative L2 error up to which a graph is taken to compute the same here as in ONNX Runtime."""


def distil_model(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Train a student of the request's model; the report.

    Args:
        argument: a request, whose `output` is the student's place, `distilling` (see `Distilling`)
            and `staging`, a folder beside the output.
        emit: told of stages, and of steps and judgements of the training.
    """
    request = request_from(argument)
    asked = Distilling(**argument["distilling"])
    try:
        from burnish.training import settings
    except ImportError:
        told = "distillation needs torch, which is not installed"
        raise UsageError(told, hint="pip install 'burnish[export]'") from None
    settings.set_threads(request.threads_used)
    with open_model(request, emit) as bench, _interrupts() as interrupted:
        job = Training(bench, asked, interrupted)
        return job.finish(job.train(), Path(argument["staging"]))


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """A list that an interrupt adds to."""
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


class Training:
    """The steps of one distillation, in order: `train`, then `finish`."""

    def __init__(self, bench: Workbench, asked: Distilling, interrupted: list[int]) -> None:
        from burnish.training.batches import Batches

        self.bench, self.asked, self.interrupted = bench, asked, interrupted
        self.request: Request = bench.request
        bench.emit({"stage": "reading the data"})
        assert self.request.data is not None
        self.batches = Batches(
            Path(self.request.data), bench.slots, bench.tokenizer, asked.batch,
            self.request.seed, asked.longest,
        )  # fmt: skip
        bench.emit({"stage": "recovering the teacher"})
        bench.accept()
        self.teacher = recovery.recover(bench).model
        self.sizes = bench.sizes()
        stream = self._stream(self.teacher)
        self.kept = kept_of(asked.student)
        self.student = self._student()
        self._check_ports()
        self.taps = self._taps(stream)

    def train(self) -> Distillation:
        """Train the student; the weights are not yet in its graph."""
        from burnish.training import distilling
        from burnish.training.network import Network
        from burnish.training.weights import inner_products, trained_in

        mine, theirs = self.taps
        teacher = Network(self.teacher, wanted=mine.names)
        student = Network(self.student, trained_in(self.student), theirs.names)
        if not student.names:
            raise UnsupportedModel("the student has no float32 weights that could be trained")
        self.bench.emit({"stage": "checking the teacher"})
        self._hold(self.bench.loaded.path, teacher, "the teacher")
        if not self.kept:
            self._hold(Path(self.asked.student), student, "the student")
        masks = (slot.port.name for slot in self.bench.slots if is_padding_mask(slot))
        asked = self.asked
        chosen = inner_products(self.student, student.names) if asked.optimizer == MUON else ()
        schedule = distilling.Schedule(
            asked.steps, 60 * asked.minutes, asked.rate, patience=asked.patience,
            muon=frozenset(chosen),
        )  # fmt: skip
        training = distilling.Distillation(
            teacher, student, self._comparison(), self.batches, next(masks, ""), schedule,
            checkpoint_of(Path(str(self.request.output))), self._order(), self.bench.emit,
            lambda: bool(self.interrupted),
        )  # fmt: skip
        if self.asked.resume:
            training.resume()
        self.ended = training.run()
        if training.state.step and not training.state.best_step:
            self.bench.warnings.append(
                "nothing was gained: no step gave better answers than the start; a lower --rate "
                f"than {asked.rate:g}, or more texts, may"
            )
        return training

    def finish(self, training: Distillation, folder: Path) -> dict[str, Any]:
        """Write the student with its weights, hold it to what was trained, publish; the report."""
        from burnish.training.weights import put_back

        self.bench.emit({"stage": "checking the student"})
        put_back(self.student, training.student.trained())
        target = Path(str(self.request.output))
        files = artifact.stage(self.student, folder / "student", target, external=False)
        self._hold(files[0], training.student, "the student as it was trained")
        facts = self._facts(training)
        digest = {key: facts[key] for key in ("schema", "burnish", "student", "losses")}
        digest["teacher"] = facts["teacher"]["sha256"]
        files = artifact.publish(files, target, digest)
        if self.ended != INTERRUPTED:
            checkpoint_of(target).unlink(missing_ok=True)
        facts["output"] = report.file_facts(files, self.student, digest_file(*files))
        return facts

    def _stream(self, model: ir.Model) -> Stream:
        return stream_of(model, self.bench.slots, shapes.infer(model, self.sizes))

    def _student(self) -> ir.Model:
        """The student's graph: what is kept of the teacher's, or that of a file."""
        self.bench.emit({"stage": "making the student"})
        if self.kept:
            return student_cuts.cut(self.bench, self.teacher, self.kept)
        path = Path(self.asked.student)
        with about(path):
            other = replace(self.request, model=str(path), output=None)
            with open_model(other, self.bench.emit) as bench:
                bench.accept()
                return recovery.recover(bench).model

    def _check_ports(self) -> None:
        """Raise where the student asks for what the teacher is not given, or answers nothing."""
        given = {value.name for value in self.teacher.graph.inputs}
        for value in self.student.graph.inputs:
            if value.name not in given:
                raise UsageError(f"the student takes {value.name}, which the teacher does not")
        if not self._outputs():
            raise UsageError("teacher and student have no float32 output in common")

    def _outputs(self) -> tuple[str, ...]:
        floats = [value for value in self.teacher.graph.outputs if value.dtype is ir.DataType.FLOAT]
        theirs = {value.name for value in self.student.graph.outputs}
        return tuple(value.name or "" for value in floats if value.name in theirs)

    def _taps(self, stream: Stream) -> tuple[Taps, Taps]:
        """What is compared inside; states of other widths are not."""
        from burnish.training.taps import Taps, paired

        other = self._stream(self.student)
        mine, theirs = paired(stream, other)
        known = [shapes.infer(model, self.sizes) for model in (self.teacher, self.student)]
        pairs = zip(mine.hidden, theirs.hidden, strict=True)
        if any(known[0].get(a) != known[1].get(b) for a, b in pairs):
            mine, theirs = Taps((), mine.relations), Taps((), theirs.relations)
            self.bench.warnings.append("hidden states have other widths, and are not compared")
        if not mine.hidden and not mine.relations:
            self.bench.warnings.append(
                "no residual stream was found that both have: only answers are compared"
            )
        return mine, theirs

    def _comparison(self) -> Any:
        from burnish.training.losses import Comparison, Weights

        asked = self.asked
        weights = Weights(asked.logits, asked.hidden, asked.relations, asked.temperature)
        named = {v.name or "" for v in self.bench.loaded.model.graph.outputs if is_distribution(v)}
        return Comparison(weights, self._outputs(), frozenset(named), *self.taps)

    def _hold(self, path: Path, network: Network, what: str) -> None:
        """Raise where a network does not answer as ONNX Runtime does with a file."""
        feed = self.batches.longest()
        wanted = self._answers(path, feed, what)
        for name, array in network.answers(feed).items():
            if name in wanted and not (error := relative_l2(wanted[name], array)) <= TOLERANCE:
                told = f"{what} gives another {name} in training than in ONNX Runtime"
                raise UnsupportedModel(f"{told} (relative error {error:.2g})")

    def _answers(self, path: Path, feed: Feeds, what: str) -> Feeds:
        """What ONNX Runtime answers, its optimizations off."""
        executor = self.bench.executor
        results = executor.folder()
        (outcome,) = executor.run([Job(path.absolute(), [executor.store([feed])], results)])
        if outcome["error"]:
            raise UnsupportedModel(outcome["error"])
        if outcome["failed"]:
            told = f"{what} does not run on the longest of the data: {outcome['failed']['0']}"
            raise UsageError(told, hint="--max-length 128")
        return executor.read(results / "0")

    def _order(self) -> str:
        """A digest of all that a training depends on."""
        files = [self.bench.loaded.sha256]
        if not self.kept:
            files.append(digest_file(Path(self.asked.student)))
        data = Path(str(self.request.data))
        files += [
            digest_file(file) for file in (sorted(data.glob("*")) if data.is_dir() else [data])
        ]
        asked = asdict(self.asked) | {"resume": False}
        text = json.dumps([files, asked, self.request.seed, __version__], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _facts(self, training: Distillation) -> dict[str, Any]:
        loaded, state = self.bench.loaded, training.state
        first = state.history[0]
        last = next(item for item in state.history if item["step"] == state.best_step)
        name, _ = tuner.processor()
        return {
            "schema": report.SCHEMA,
            "burnish": __version__,
            "teacher": report.file_facts(loaded.files, loaded.model, loaded.sha256),
            "student": {"of": self.asked.student, "parameters": _parameters(training.student),
                        "teacher_parameters": _parameters_of(self.teacher),
                        "masked": asdict(training.masked)},
            "target": report.target_facts(
                REFERENCE, name, self.request.threads_used, versions(REFERENCE), self.student
            ),
            "training": {
                "ended": self.ended, "steps": state.step, "seconds": round(state.seconds, 1),
                "best_step": state.best_step, "texts": self.batches.texts,
                "passes": round(state.step / self.batches.count, 2),
                "weights": len(training.student.names),
                "outputs": list(self._outputs()), "states": len(self.taps[0].hidden),
                "relations": len(self.taps[0].relations), "options": asdict(self.asked),
                "history": state.history,
            },
            "losses": {"before": _rounded(first), "after": _rounded(last)},
            "warnings": self.bench.warnings,
        }  # fmt: skip


def _parameters(network: Network) -> int:
    return sum(weight.numel() for weight in network.weights)


def _parameters_of(model: ir.Model) -> int:
    from burnish.training.weights import trained_in

    values = (model.graph.initializers[name].const_value for name in trained_in(model))
    return sum(int(tensor.size) for tensor in values if tensor is not None)


def _rounded(found: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in found.items() if name != "step"}

"""One compilation, inside its sandboxed child: passes, check, time, publish, report."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from burnish import __version__
from burnish.driver import budget, findings, pruning, retreat, whole
from burnish.driver.candidate import Candidate, Reference
from burnish.driver.judge import Judge
from burnish.driver.learning import activations_of
from burnish.driver.net import Net
from burnish.driver.original import run_original
from burnish.driver.plan import only_raised, passes_for
from burnish.driver.request import Request, request_from
from burnish.driver.workbench import Emit, Workbench, open_model
from burnish.optimizer import artifact, feeds, pipeline, report, tuner
from burnish.optimizer.activations import Activations
from burnish.optimizer.calibration import Calibration
from burnish.optimizer.contract import Pass
from burnish.optimizer.digests import digest_file
from burnish.optimizer.doubts import doubts
from burnish.optimizer.errors import BurnishError, UsageError
from burnish.optimizer.measure import Contest
from burnish.optimizer.pipeline import Compiled
from burnish.optimizer.signature import Signature
from burnish.optimizer.verify import Checker
from burnish.passes.compress.pruning.prune import Prune
from burnish.runtimes.providers import PROVIDERS, REFERENCE

SENSED = 8
"""Feeds that places are measured on one by one."""

TIMING_SECONDS = 10.0
"""Time given to the comparison of the artifact with the input."""


def compile_model(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Do what the request (as a dict) asks; the report, JSON schema 1."""
    request = request_from(argument)
    folder = Path(argument["staging"])
    with open_model(request, emit, folder) as bench:
        compilation = Compilation(bench, folder)
        return compilation.finish(compilation.prepare())


class Compilation:
    """The steps of one compilation, in order: `prepare`, then `finish`."""

    def __init__(self, bench: Workbench, folder: Path) -> None:
        self.bench = bench
        self.request: Request = bench.request
        self.folder = folder
        self.original = bench.loaded.model
        self.reference: Reference | None = None
        self.observe: Calibration | None = None
        self.activations: Activations | None = None
        self.judge = self.sense = Judge(bench, None)
        self.chooser: tuner.Tuner
        self.pruning = pruning.Pruning(self.request, self._compile, self._judged)
        self.over_budget: list[dict[str, str]] = []
        self._staged = 0

    def prepare(self) -> Candidate:
        """Compile, check and time; what is ready to be published."""
        bench, request = self.bench, self.request
        bench.emit({"stage": "checking the input"})
        bench.loaded.hash_beside()
        for file in bench.loaded.files:
            if os.path.exists(request.target) and os.path.samefile(file, request.target):
                raise UsageError(f"the output would overwrite {file}", hint="another -o")
        bench.accept()
        if request.check and bench.fits():
            self.reference = run_original(bench)
            self._calibrate(self.reference)
        elif request.check:
            bench.warnings.append(
                "the model is too large for the memory limit to be run: passes are checked for "
                "legality, their numbers are not"
            )
        if request.measure:
            bench.untimed = bench.too_costly()
            if not bench.untimed:
                bench.settle()
        with bench.contest() as contest, self._tuner(contest) as chooser:
            self.chooser = chooser
            candidate = self._best()
            for _ in range(pruning.ROUNDS - 1):
                if not self.pruning.again(candidate):
                    break
                candidate = self._best()
            return candidate

    def _best(self) -> Candidate:
        """The result of all passes, within the budget, sound, and not slower than the input."""
        bench, request = self.bench, self.request
        compiled = self._compiled()
        if only_raised(compiled, request):
            compiled = pipeline.undone(compiled, "nothing was found that needs it")
        search = budget.Search(bench, self._compile, self._judged, self._sensed, self._without)
        runtime = PROVIDERS[request.provider].runtime
        net = Net(self.original, self._judged, self._without, runtime, bench.warnings)
        candidate = net.sound(search.within_budget(compiled), request.max_drop)
        self.over_budget = search.over_budget
        return self._not_slower(candidate)

    def _compiled(self) -> Compiled:
        """All passes; how much is pruned is settled before those behind begin."""
        passes = passes_for(self.request)
        at = next((i for i, item in enumerate(passes) if isinstance(item, Prune)), None)
        if at is None:
            return self._compile(passes, self.original)
        head = self.pruning.settle(self._compile(passes[:at], self.original))
        if self.pruning.limited:
            self.bench.warnings.append(f"pruning: {self.pruning.limited}")
        tail = self._compile(passes[at + 1 :], head.model)
        return Compiled(tail.model, head.steps + tail.steps, head.snapshots + tail.snapshots)

    def _calibrate(self, reference: Reference) -> None:
        """Decide what is calibrated on which feeds, and which the result is judged on."""
        bench, real = self.bench, self.request.data is not None
        used = judged = reference
        request = self.request
        spends = request.precision or request.kv_cache or request.low_rank
        learns = request.prune or request.sparsity
        if real and (spends or learns):
            used, judged = reference.split()
            read = [bench.executor.read(folder) for folder in used.folders]
            bench.warnings += doubts(read, bench.slots, bench.tokenizer)
        self.judge, self.sense = Judge(bench, judged), Judge(bench, used.some(SENSED))
        masks = [slot.port.name for slot in bench.slots if feeds.is_padding_mask(slot)]
        self.observe = Calibration(bench.executor, used.folders, masks, real=real)
        if real and learns:
            self.activations = activations_of(bench, used.folders, masks)

    def _tuner(self, contest: Contest) -> tuner.Tuner:
        request = self.request
        record = Path(request.tuning) if request.tuning else tuner.default_record()
        return tuner.Tuner(
            contest if request.measure else None,
            self.bench.executor,
            record if request.measure or request.tuning else None,
            self.bench.machine(),
            provider="" if request.provider == REFERENCE else request.provider,
            replay=request.tuning is not None,
            warn=self.bench.warnings.append,
        )

    def _compile(
        self, passes: Sequence[Pass], start: ir.Model, *, trusted: bool = False
    ) -> Compiled:
        """Run passes on a model. Without a reference they are checked for legality alone."""
        feeds = self.reference.folders if self.reference else []
        probes = self.reference.probes if self.reference else []
        check = (
            None
            if trusted
            else Checker(self.bench.executor, feeds, probes, self.bench.longer).check
        )

        def progress(name: str) -> None:
            self.bench.emit({"stage": name})

        context = self.bench.context(self.chooser, self.observe)
        context = replace(context, activations=self.activations)
        return pipeline.run(start, passes, context, check, progress)

    def _without(self, compiled: Compiled, index: int, reason: str) -> Compiled:
        """The compilation with one step rejected and those after it done again."""
        later = [step.transform for step in compiled.steps[index + 1 :]]
        tail = self._compile(later, compiled.snapshots[index])
        return Compiled(
            tail.model,
            (
                *compiled.steps[:index],
                pipeline.rejected(compiled.steps[index], reason),
                *tail.steps,
            ),
            compiled.snapshots[: index + 1] + tail.snapshots,
        )

    def _judged(self, compiled: Compiled) -> Candidate:
        return self.judge(self._stage(compiled))

    def _sensed(self, compiled: Compiled) -> Candidate:
        return self.sense(self._stage(compiled))

    def _stage(self, compiled: Compiled) -> Candidate:
        """Write the model as it would be; what was staged before is gone."""
        self.bench.emit({"stage": "writing"})
        shutil.rmtree(self.folder / f"candidate-{self._staged}", ignore_errors=True)
        self._staged += 1
        folder = self.folder / f"candidate-{self._staged}"
        target = self.request.target
        if compiled.model is self.original:
            return Candidate(compiled, self.bench.loaded.files)
        model = compiled.ports.exposed(compiled.model)
        external = self.bench.loaded.external
        return Candidate(compiled, artifact.stage(model, folder, target, external=external))

    def _not_slower(self, candidate: Candidate) -> Candidate:
        """Time the artifact in stock sessions; where it loses, go back to what does not."""
        if self.bench.untimed:
            self.bench.warnings.append(f"the whole model was not timed: {self.bench.untimed}")
        if self.bench.untimed or not self.request.measure:
            return candidate
        reduced = False
        while candidate.compiled.model is not self.original:
            timing = candidate.timing = whole.timed(self.bench, candidate, TIMING_SECONDS)
            if whole.as_fast(self.bench, self.chooser, candidate, timing):
                return candidate
            if self.request.force or (reduced and retreat.lasts(candidate.compiled)):
                self.bench.warnings.append(retreat.kept(timing.speedup, self.request.force))
                return candidate
            reason = f"the model is slower with it ({timing.speedup:.2f} times)"
            index = pipeline.first_asked(candidate.compiled)
            if index is None:
                reduced = True
                again = retreat.reduced(candidate.compiled, reason, self._from_input)
                candidate = self._judged(again)
            else:
                candidate = self._judged(self._without(candidate.compiled, index, reason))
        return candidate

    def _from_input(self, passes: Sequence[Pass]) -> Compiled:
        return self._compile(passes, self.original)

    def finish(
        self,
        candidate: Candidate,
        providers: Sequence[dict[str, Any]] = (),
        precisions: Sequence[dict[str, Any]] = (),
    ) -> dict[str, Any]:
        """Publish; the report, with the providers or precisions that it was chosen from."""
        compiled, ports = candidate.compiled, candidate.compiled.ports
        model = ports.exposed(compiled.model)
        expected = ports.signature(Signature.of(self.original))
        if compiled.lost_ports or expected.difference(Signature.of(model)):
            raise BurnishError("internal error: the signature changed")
        self.bench.warnings += pipeline.without_effect(candidate.compiled)
        provider = self.request.provider
        self.bench.warnings += report.elsewhere(provider, candidate.fallen)
        self.bench.warnings += filter(None, [PROVIDERS[provider].note])
        result = findings.facts(self.bench, candidate, self.judge, self.over_budget)
        if told := pruning.facts(compiled, self.request, self.pruning.limited):
            result["pruning"] = told
        result |= {"providers": list(providers), "precisions": list(precisions)}
        result |= findings.details(self.bench, candidate, self.sense, self.folder)
        if self.request.dry_run:
            sizes = sum(file.stat().st_size for file in candidate.files)
            result["output"] = {"path": str(self.request.target), "bytes": sizes, "written": False}
            return result
        self.bench.emit({"stage": "publishing"})
        files = self._publish(candidate, report.digest(result, __version__))
        result["output"] = report.file_facts(files, model, digest_file(*files)) | {"written": True}
        return result

    def write_also(self, candidate: Candidate, target: Path) -> None:
        """Publish a result under another name than the request's."""
        compiled, external = candidate.compiled, self.bench.loaded.external
        model = compiled.ports.exposed(compiled.model)
        files = artifact.stage(model, self.folder / "also", target, external=external)
        facts = findings.facts(self.bench, candidate, self.judge, self.over_budget)
        artifact.publish(files, target, report.digest(facts, __version__))

    def _publish(self, candidate: Candidate, digest: dict[str, Any]) -> tuple[Path, ...]:
        if candidate.compiled.model is self.original:
            candidate.files = artifact.stage(
                self.original,
                self.folder / "unchanged",
                self.request.target,
                external=self.bench.loaded.external,
            )
        return artifact.publish(candidate.files, self.request.target, digest)

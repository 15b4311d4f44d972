"""What a staged model keeps of the original's answers."""

from __future__ import annotations

import shutil
from typing import Any

from burnish.driver.candidate import Candidate, Reference
from burnish.driver.foreign import held, is_foreign
from burnish.driver.workbench import Workbench
from burnish.optimizer import report
from burnish.optimizer.contract import Array
from burnish.optimizer.executor import Job
from burnish.optimizer.fidelity import Fidelity, fidelity
from burnish.optimizer.pipeline import Compiled
from burnish.optimizer.undefined import cleared


class Judge:
    """Runs staged models as the user will, and compares them with the original.

    Args:
        bench: the original, laid out for work.
        reference: its answers on the feeds that count; None where nothing is run.
    """

    def __init__(self, bench: Workbench, reference: Reference | None) -> None:
        self._bench = bench
        self._reference = reference

    def __call__(self, candidate: Candidate) -> Candidate:
        """The candidate with its fidelity, where anything is run."""
        bench, reference = self._bench, self._reference
        if reference is None:
            return candidate
        bench.emit({"stage": "comparing with the input"})
        results = bench.executor.folder()
        ports, folders = candidate.compiled.ports, reference.folders
        if ports:
            read = (bench.executor.read(folder) for folder in folders)
            folders = bench.executor.store(ports.given(feed) for feed in read)
        feeds = [[folder] for folder in folders]
        provider = bench.request.provider
        job = Job(candidate.files[0], feeds, results, optimize=True, provider=provider)
        outcome = bench.executor.run([job])[0]
        candidate.fallen = outcome["fallen"]
        if outcome["error"] or outcome["failed"]:
            reason = outcome["error"] or next(iter(outcome["failed"].values()))
            candidate.fidelity = Fidelity({}, 1.0, reason)
            return candidate
        given = (bench.executor.read(results / str(i)) for i in range(len(feeds)))
        outputs = list(given)
        if ports:
            callers = (bench.executor.read(folder) for folder in reference.folders)
            outputs = [ports.taken(*item) for item in zip(outputs, callers, strict=True)]
        shutil.rmtree(results)
        candidate.fidelity = fidelity(
            self._on_tokens(candidate.compiled, reference.outputs, reference),
            self._on_tokens(candidate.compiled, outputs, reference),
            bench.distributions(),
            made_up=bench.request.data is None,
            groups=reference.groups,
        )
        if is_foreign(provider):
            candidate.fidelity = held(candidate.fidelity, candidate.compiled)
        return candidate

    def _on_tokens(
        self, compiled: Compiled, outputs: list[dict[str, Array]], reference: Reference
    ) -> list[dict[str, Array]]:
        """The outputs without what stands in elements that have a fixed value by definition."""
        rows = compiled.undefined
        if not rows:
            return outputs
        feeds = [self._bench.executor.read(folder) for folder in reference.folders]
        return [cleared(item, feed, rows) for item, feed in zip(outputs, feeds, strict=True)]

    def facts(self, candidate: Candidate) -> dict[str, Any] | None:
        """What the report says of the answers; nothing where none were compared."""
        reference = self._reference
        if candidate.fidelity is None or reference is None:
            return None
        return report.fidelity_facts(
            candidate.fidelity, reference.description, len(reference.folders)
        )

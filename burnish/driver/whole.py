"""The artifact against the input, both in stock sessions: how long it takes, and whether it stays.

The verdict goes into the tuning record like the choices of forms, so that the same input, options,
versions and record give the same bytes, however noisy the machine is on the day of a replay.
"""

from __future__ import annotations

from burnish.driver.candidate import Candidate
from burnish.driver.workbench import Workbench
from burnish.optimizer.contract import Choice
from burnish.optimizer.digests import digest_file
from burnish.optimizer.measure import Entrant, Timing
from burnish.optimizer.tuner import Tuner

AS_FAST = 0.97
"""Speed-up that still counts as none where its interval holds 1."""

ARTIFACT, INPUT = "artifact", "input"
"""The two verdicts: as fast as the input, and slower."""


def timed(bench: Workbench, candidate: Candidate, seconds: float) -> Timing:
    """Times of the staged artifact against the input, for about so many seconds."""
    bench.emit({"stage": "timing"})
    feed = bench.timing_feed()
    folders = bench.executor.store([feed, candidate.compiled.ports.given(feed)])
    entrants = {
        INPUT: Entrant(bench.loaded.path.absolute(), folders[0]),
        ARTIFACT: Entrant(candidate.files[0].absolute(), folders[1]),
    }
    with bench.contest() as contest:
        return contest.compare(entrants, seconds)[ARTIFACT]


def as_fast(bench: Workbench, record: Tuner, candidate: Candidate, timing: Timing) -> bool:
    """Whether the artifact counts as no slower than the input: as recorded, else by its times."""
    sizes = ",".join(f"{name}={size}" for name, size in sorted(bench.sizes().items()))
    given = bench.loaded.sha256[:16]
    key = f"whole model {digest_file(*candidate.files)[:16]} from {given} at {sizes}"
    sure = timing.high >= 1.0 and timing.speedup >= AS_FAST
    found = Choice(ARTIFACT if sure else INPUT, round(timing.speedup, 3), measured=True)
    among = (ARTIFACT, INPUT)
    stands = record.recall(key, among) or record.remember(key, found, among)
    if stands.winner != found.winner:
        bench.warnings.append(
            f"timed {timing.speedup:.2f} times as fast as the input; the tuning record has "
            f"{stands.speedup:.2f} times, which decides"
        )
    return stands.winner == ARTIFACT

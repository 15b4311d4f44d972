"""A zoo that is killed at random moments: `python benchmarks/zoo/kills.py FOLDER --kills 50`.

Converts the zoo of `build.py` once undisturbed, then again and again into an empty folder, killed
(SIGKILL) at random moments and begun again until it ends by itself, until there were so many kills.
Every artifact is compared with that of the undisturbed run, byte by byte. Then two runs are started
on one empty folder at once. A last round has no tuning record at its start: what it makes is
compared with an undisturbed run on the record that it leaves. Writes FOLDER/kills.md as it goes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from build import PATTERNS, build

BUDGET = "3.3GB"
"""Of memory: two checkpoints or three of the other models at a time, and never the huge one."""

SOON, LATE = (0.2, 10.0), (10.0, 60.0)
"""Seconds after which a run is killed, each of the two half of the time: while it looks and begins,
and when exports and timings have had the time to end."""


class Zoo:
    """The zoo, and the processes that convert it."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder = folder
        self.source = source

    def start(self, output: Path, cache: Path) -> subprocess.Popen[bytes]:
        """A run, in a group of its own, with a tuning record of its own."""
        line = [sys.executable, "-m", "burnish", "zoo", str(self.source), "-o", str(output)]
        return subprocess.Popen(
            [*line, "--memory-limit", BUDGET, "--quiet"],
            env={**os.environ, "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"},
        )

    def whole(self, name: str, cache: Path) -> Path:
        """An undisturbed run; what an earlier one has done stays."""
        output = self.folder / name
        code = self.start(output, cache).wait()
        assert code == 1, code  # some of the zoo come to nothing
        return output

    def killed(self, name: str, cache: Path, most: int, chance: random.Random) -> tuple[Path, int]:
        """A run into an empty folder that is killed up to so many times; how often it was."""
        output = self.folder / name
        shutil.rmtree(output, ignore_errors=True)
        for kills in range(most + 1):
            process = self.start(output, cache)
            try:
                moment = chance.uniform(*chance.choice((SOON, LATE)))
                process.wait(moment if kills < most else None)
                assert process.returncode == 1, process.returncode
                return output, kills
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
        raise AssertionError("a run that is not killed ends")


def artifacts(output: Path) -> dict[str, bytes]:
    """What the rows of a run name, by path."""
    report: dict[str, Any] = json.loads((output / "zoo.json").read_text())
    names = [name for row in report["members"] for name in row["files"]]
    return {name: (output / name).read_bytes() for name in names}


def difference(first: Path, second: Path) -> list[str]:
    """Names of artifacts of the second run that the first has not, or has otherwise."""
    mine, theirs = artifacts(first), artifacts(second)
    return sorted(name for name in theirs if mine.get(name) != theirs[name])


def table(report: dict[str, Any]) -> str:
    """The zoo's rows in Markdown."""
    lines = ["| model | result | size | times as fast | loss | attentions | GB: given, used | |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in report["members"]:
        found, peak = row["attentions"], row["peak_bytes"]
        cells = [
            row["name"], row["status"],
            "" if row["size_ratio"] is None else f"{row['size_ratio']:.2f}",
            "" if row["speedup"] is None else f"{row['speedup']:.2f}",
            "" if row["drop"] is None else f"{row['drop']:.1e}",
            f"{found['found']} of {found['expected']}" if found else "",
            "" if peak is None else f"{row['need_bytes'] / 1e9:.2f}, {peak / 1e9:.2f}",
            row["reason"],
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run everything, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no round after these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", help="patterns of the models in killed runs")
    given = parser.parse_args()
    begin, chance = time.monotonic(), random.Random(given.seed)
    zoo, cache = Zoo(given.folder, build(given.folder)), given.folder / "cache"
    whole = zoo.whole("whole", cache)
    lines = [table(json.loads((whole / "zoo.json").read_text())), ""]

    def note(text: str) -> None:
        print(text, flush=True)
        lines.append(text)
        (given.folder / "kills.md").write_text("\n".join(lines) + "\n")

    if given.only:
        text = zoo.source.read_text().partition("patterns:")[0]
        zoo.source = zoo.source.with_name("some.yaml")
        zoo.source.write_text(f"models: {json.dumps(given.only)}\n{text}{PATTERNS}")
    done = rounds = 0
    while done < given.kills and time.monotonic() - begin < 60 * given.minutes:
        output, kills = zoo.killed("killed", cache, given.kills - done, chance)
        done, rounds = done + kills, rounds + 1
        apart = difference(whole, output)
        count = len(artifacts(output))
        note(f"Round {rounds}: {kills} kills, {len(apart)} of {count} files differ {apart or ''}")
    pair = zoo.folder / "pair"
    shutil.rmtree(pair, ignore_errors=True)
    codes = [process.wait() for process in [zoo.start(pair, cache), zoo.start(pair, cache)]]
    note(f"Two at once: exit codes {codes}, {len(difference(whole, pair))} files differ.")
    own = given.folder / "own-cache"
    shutil.rmtree(own, ignore_errors=True)
    output, kills = zoo.killed("fresh", own, given.kills, chance)
    done += kills
    apart = difference(zoo.whole("fresh-whole", own), output)
    note(f"Without a record at its start: {kills} kills, {len(apart)} files differ.")
    note(f"{done} kills in all, {len(artifacts(output))} files compared each time.")


if __name__ == "__main__":
    main()

"""The memory that one run of a model takes, in a process of its own.

    python benchmarks/windows/peak.py MODEL FEED

prints the bytes that the process held at most, less what it held before the run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from burnish.runtimes.arrays import read_arrays
from burnish.runtimes.providers import PROVIDERS


def peak(model: Path, feed: Path) -> int:
    """Bytes that a run takes beyond the session and its inputs."""
    command = [sys.executable, __file__, str(model), str(feed)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _held(name: str) -> int:
    """Bytes that this process holds (`VmRSS`), or has held at most (`VmHWM`)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise SystemExit("error: this system does not tell")


def main() -> None:
    """Run once and print."""
    model, feed = map(Path, sys.argv[1:3])
    session, arrays = PROVIDERS["cpu"].open(model), read_arrays(feed)
    Path("/proc/self/clear_refs").write_text("5")  # what was held at most counts from here
    before = _held("VmRSS")
    session.run(None, arrays)
    print(_held("VmHWM") - before)


if __name__ == "__main__":
    main()

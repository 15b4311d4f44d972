"""`optimize serve`, ended by each signal: how long until none of its processes is left.

    python benchmarks/ray/ending.py examples/tagger/model.onnx

An interrupt goes to the whole group, as at a prompt. Its processes are those that have inherited
the folder which Ray is given; other clusters are not looked at. Also says what listens on other
addresses than loopback meanwhile: nothing should.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LONGEST = 60.0
"""Seconds to wait for the last process."""


def belonging(folder: str) -> list[int]:
    """Processes that were started with the folder in their environment."""
    mark, found = f"RAY_TMPDIR={folder}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def listening_beyond(processes: list[int]) -> list[str]:
    """Addresses other than loopback where any of them listens."""
    inodes = set()
    for pid in processes:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(os.readlink(link))
            except OSError:
                continue
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            words = line.split()
            place = words[1].partition(":")[0]
            loopback = place[-8:] == "0100007F" or place == f"{1 << 24:032X}"
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes and not loopback:
                found.append(words[1])
    return found


def ended(model: Path, number: signal.Signals) -> None:
    """Serve, end, print."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="r-")
    words = [sys.executable, "-m", "burnish", "serve", str(model), "--port", str(port)]
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        process_group=0,
        env={**os.environ, "RAY_TMPDIR": folder},
    ) as service:
        assert service.stdout is not None
        for line in service.stdout:
            if line.startswith("try: "):
                break
        processes = belonging(folder)
        beyond = listening_beyond(processes)
        start = time.monotonic()
        if number is signal.SIGINT:
            os.killpg(service.pid, number)
        else:
            service.send_signal(number)
        code = service.wait()
        while (left := belonging(folder)) and time.monotonic() - start < LONGEST:
            time.sleep(0.1)
    spent = time.monotonic() - start
    print(
        f"| {number.name} | {code} | {len(processes)} | {len(left)} | {spent:.1f} | "
        f"{', '.join(beyond) or 'nothing'} |",
        flush=True,
    )
    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """All signals in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    options = parser.parse_args()
    print("| signal | exit code | processes | left | after s | listens beyond loopback |")
    print("|---|---|---|---|---|---|")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        ended(options.model, number)


if __name__ == "__main__":
    main()

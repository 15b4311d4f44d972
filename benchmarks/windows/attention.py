"""Attention within a window by itself: what `optimize` makes of it, against stock ONNX Runtime.

    python benchmarks/windows/attention.py [--lengths 1024,2048,...] [--openvino]
        [--heads 12] [--groups 12] [--size 64] [--left 64] [--right 64]

A module of PyTorch (12 heads of 64, 64 keys to either side, padding by an input) is exported with
free sizes and optimized as any model. Both files run in stock sessions of a process each, in
alternating blocks. Where scores of all queries with all keys are more than `DENSE` bytes, only the
result of `optimize` runs. The peak is what a process holds while it runs, less what it held before.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from peak import peak

from burnish.optimizer import sandbox
from burnish.optimizer.measure import Contest, Entrant
from burnish.optimizer.sandbox import Limits
from burnish.runtimes.arrays import write_arrays
from burnish.runtimes.providers import PROVIDERS

OPTIMIZE = str(Path(sys.executable).with_name("optimize"))
STOPWATCH = "burnish.runtimes.work:stopwatch"
DENSE = 6e9
"""Bytes of scores up to which the input runs."""

SECONDS = 6.0
"""Time given to each comparison."""


@dataclass(frozen=True)
class Kind:
    """Heads of queries, and of keys and values; their size; keys before and after the query."""

    heads: int = 12
    groups: int = 12
    size: int = 64
    left: int = 64
    right: int = 64


class Attention(torch.nn.Module):
    """Attention with a window and a padding mask, as encoders and decoders write it."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind = kind

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """[batch, sequence, heads * size] each, and [batch, sequence]."""
        kind, (batch, length, _) = self.kind, query.shape
        place = torch.arange(length)
        distance = place[None, :] - place[:, None]
        near = (distance >= -kind.left) & (distance <= kind.right)
        seen = near[None, None] & mask[:, None, None, :].bool()
        query, key, value = (
            item.view(batch, length, -1, kind.size).transpose(1, 2) for item in (query, key, value)
        )
        if kind.groups != kind.heads:
            shape = (batch, kind.groups, kind.heads // kind.groups, length, kind.size)
            key, value = (
                item[:, :, None].expand(shape).reshape(batch, kind.heads, length, kind.size)
                for item in (key, value)
            )
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        return mixed.transpose(1, 2).reshape(batch, length, kind.heads * kind.size)


def export(path: Path, kind: Kind) -> None:
    """The module with a free batch and length."""
    widths = (kind.heads, kind.groups, kind.groups)
    feed = [torch.randn(2, 150, heads * kind.size) for heads in widths]
    names = ["query", "key", "value", "mask"]
    torch.onnx.export(
        Attention(kind).eval(), (*feed, torch.ones(2, 150, dtype=torch.int64)), path,
        input_names=names, output_names=["mixed"], opset_version=17, dynamo=False,
        dynamic_axes={name: {0: "batch", 1: "sequence"} for name in (*names, "mixed")},
    )  # fmt: skip


def feed_of(length: int, kind: Kind) -> dict[str, np.ndarray]:
    """One sequence whose last twentieth is padding."""
    generator = np.random.default_rng(0)
    widths = {"query": kind.heads, "key": kind.groups, "value": kind.groups}
    feed = {
        name: generator.standard_normal((1, length, heads * kind.size), np.float32)
        for name, heads in widths.items()
    }
    mask = np.ones((1, length), np.int64)
    mask[:, length - length // 20 :] = 0
    return feed | {"mask": mask}


def _answer(path: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(PROVIDERS["cpu"].open(path).run(None, feed)[0])


def answer(path: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    """The first output, from a process that gives its memory back."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_answer, path, feed).result()


def error(first: Path, second: Path, feed: dict[str, np.ndarray]) -> float:
    """The largest difference on real tokens."""
    real = feed["mask"].astype(bool)
    return float(np.abs(answer(first, feed) - answer(second, feed))[real].max())


def main() -> None:
    """Export, optimize, compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", default="64,128,256,1024,2048,4096,8192,16384,32768")
    parser.add_argument("--openvino", action="store_true", help="time OpenVINO on the input too")
    for field in fields(Kind):
        parser.add_argument(f"--{field.name}", type=int, default=field.default)
    arguments = parser.parse_args()
    kind = Kind(*(getattr(arguments, field.name) for field in fields(Kind)))
    limits = Limits(sandbox.default_memory(), 3600.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, target = folder / "dense.onnx", folder / "window.onnx"
        export(source, kind)
        command = [OPTIMIZE, str(source), "-o", str(target), "-q", "--shape", "batch=1"]
        subprocess.run(command, check=True)
        columns = ["length", "dense ms", "ours ms", "times faster", "OpenVINO ms"]
        columns += ["peak MB, dense", "peak MB, ours", "error"]
        print("| " + " | ".join(columns) + " |")
        print("|---|---|---|---|---|---|---|---|")
        times: dict[int, float] = {}
        for length in map(int, arguments.lengths.split(",")):
            feed = feed_of(length, kind)
            write_arrays(folder / "feed", feed)
            dense = kind.heads * length * length * 4.0 <= DENSE
            entrants = {"dense": Entrant(source, folder / "feed")} if dense else {}
            entrants["ours"] = Entrant(target, folder / "feed")
            if arguments.openvino and dense:
                entrants["openvino"] = Entrant(source, folder / "feed", "openvino")
            with Contest(STOPWATCH, limits) as contest:
                found = contest.compare(entrants, SECONDS) if dense else {}
                alone = contest.compare(
                    {"ours": entrants["ours"], "again": Entrant(target, folder / "feed")}, SECONDS
                )
            times[length] = alone["again"].baseline_ms
            peaks = [peak(path, folder / "feed") for path in (source, target)[not dense :]]
            row = [str(length)]
            if dense:
                ours = found["ours"]
                row += [f"{ours.baseline_ms:.2f}", f"{ours.candidate_ms:.2f}"]
                row.append(f"{ours.speedup:.2f} ({ours.low:.2f} to {ours.high:.2f})")
                row.append(f"{found['openvino'].candidate_ms:.2f}" if arguments.openvino else "")
                row += [f"{item / 1e6:.0f}" for item in peaks]
                row.append(f"{error(source, target, feed):.1e}")
            else:
                row += ["", f"{times[length]:.2f}", "", "", "", f"{peaks[0] / 1e6:.0f}", ""]
            print("| " + " | ".join(row) + " |", flush=True)
        ends = [length for length in times if length >= 4096]
        if len(ends) > 1:
            first, last = min(ends), max(ends)
            growth = math.log(times[last] / times[first]) / math.log(last / first)
            print(f"\nfrom {first} to {last} tokens the time grows with the power {growth:.2f}")


if __name__ == "__main__":
    main()

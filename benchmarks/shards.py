"""Models over ranks: the ranks together against the whole, what each has, and where they meet.

    python benchmarks/shards.py FOLDER [--ranks 2,4] [--only NAMES]     errors and sizes
    python benchmarks/shards.py FOLDER --time MODEL                     two ranks against one

`FOLDER` holds exports, made there where they are missing: of the architectures of `tests/matrix`,
each by the first exporter that takes it with TorchScript and with dynamo, and of one whose heads do
not divide by four. Ranks are written, loaded by stock ONNX Runtime, run part by
part and compared with the model, which `optimize plan --shards` does in any case.

`--time` splits a model over two ranks of one thread each, and takes times in alternating blocks
beside the whole model in one thread and in two, each in a process of its own.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from matrix import isolation
from matrix.architectures import BY_NAME, TEXT, Architecture, plain
from matrix.exporters import HANGING, Cell, Exporter, export

import burnish
from burnish.driver import Request
from burnish.optimizer.errors import BurnishError
from burnish.runtimes.workers.made_up import feed_of
from burnish.runtimes.workers.requests import Port

NAMES = (
    "bert", "gpt2", "gpt2-cached", "llama", "llama-cached", "t5-encoder", "t5-decoder", "vit",
    "swin", "mixtral", "falcon", "phi3", "gpt-neox", "whisper-decoder",
)  # fmt: skip
OWN = (
    Architecture(
        "llama-6-heads",
        plain(
            "LlamaForCausalLM", "LlamaConfig",
            **TEXT | {"hidden_size": 96, "num_attention_heads": 6}, num_key_value_heads=3,
        ),
        undefined=frozenset({"left"}),
    ),
)  # fmt: skip
KINDS = {
    "torchscript": (Exporter("torchscript", "sdpa", 17), Exporter("torchscript", "eager", 17)),
    "dynamo": (Exporter("dynamo", "sdpa", 20), Exporter("dynamo", "eager", 20)),
}
SHAPE = {"batch": 8, "sequence": 128}


def exported(folder: Path, architecture: Architecture, kind: str) -> Path | None:
    """The export, made where it is missing; None where no exporter of that kind takes it."""
    for exporter in KINDS[kind]:
        cell = Cell(architecture, exporter)
        path = folder / f"{cell}.onnx"
        if not path.exists():
            isolation.call(export, cell, path, seconds=HANGING)
        if path.exists():
            return path
    return None


def row(path: Path, ranks: int) -> str:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            request = Request(str(path), shape=SHAPE)
            facts = burnish.driver.plan_stages(request, None, f"{scratch}/ranks", shards=ranks)
        except BurnishError as error:
            return f"| {path.stem} | {ranks} | {error} | | | | | |"
    split = facts["weights_bytes"] - facts["whole_bytes"]
    mine = facts["rank_weights_bytes"] - facts["whole_bytes"]
    whole = ", ".join(item["weight"].split("/")[-1][-34:] for item in facts["whole"]) or "-"
    return (
        f"| {path.stem} | {ranks} | {facts['error']:.1e} | {mine / split:.2f} | "
        f"{facts['rank_weights_bytes'] / facts['weights_bytes']:.2f} | "
        f"{facts['rank_flops'] / facts['flops']:.2f} | "
        f"{len(facts['reduced'])} + {len(facts['gathered'])} | {whole} |"
    )


def table(folder: Path, counts: list[int], only: list[str]) -> None:
    """Print errors and sizes."""
    print("| model | ranks | error | of what is split | of all weights | of products | meets |"
          " whole on each rank |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for architecture in (*(BY_NAME[name] for name in NAMES), *OWN):
        if only and architecture.name not in only:
            continue
        for kind in KINDS:
            path = exported(folder, architecture, kind)
            if path is None:
                print(f"| {architecture.name}-{kind} | | not exported | | | | | |", flush=True)
                continue
            for ranks in counts:
                print(row(path, ranks), flush=True)


BLOCK, BLOCKS = 20, 15


def answer(path: str, threads: int, workers: str) -> None:
    """A child: open a model or its ranks, and take the time of a block for each line that comes."""
    folder = Path(path).is_dir()
    options: dict[str, Any] = {"workers": workers} if folder else {}
    runtime = burnish.load(path, threads=threads, **options)

    feed = feed_of(list(map(Port.of, runtime.get_inputs())), rows=8, length=128)
    runtime.run(None, feed)
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(BLOCK):
            runtime.run(None, feed)
        print((time.perf_counter() - start) / BLOCK, flush=True)
    if folder:
        runtime.close()


def timed(model: Path) -> None:
    """Print times of the whole model and of two ranks, and their ratio."""
    with tempfile.TemporaryDirectory() as scratch:
        ranks = f"{scratch}/ranks"
        burnish.driver.plan_stages(Request(str(model), shape=SHAPE), None, ranks, shards=2)
        rows = {
            "whole, one thread": (str(model), 1, "threads"),
            "whole, two threads": (str(model), 2, "threads"),
            "two ranks, processes": (ranks, 1, "processes"),
            "two ranks, threads": (ranks, 1, "threads"),
        }
        children = {name: _child(*arguments) for name, arguments in rows.items()}
        times: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(BLOCKS):
            for name, child in children.items():
                assert child.stdin is not None and child.stdout is not None
                child.stdin.write("\n")
                child.stdin.flush()
                times[name].append(float(child.stdout.readline()))
        for child in children.values():
            child.communicate()
    print("| how | ms | times one thread |\n|---|---|---|")
    first = times["whole, one thread"]
    for name, found in times.items():
        ratios = [one / other for one, other in zip(first, found, strict=True)]
        print(
            f"| {name} | {1e3 * statistics.median(found):.2f} | {statistics.median(ratios):.2f} |"
        )


def _child(path: str, threads: int, workers: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--answer", path, str(threads), workers]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


def main() -> None:
    """Export, split, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--ranks", default="2,4")
    parser.add_argument("--only", default="")
    parser.add_argument("--time", type=Path)
    parser.add_argument("--answer", nargs=3)
    options = parser.parse_args()
    if options.answer:
        path, threads, workers = options.answer
        answer(path, int(threads), workers)
    elif options.time:
        timed(options.time)
    else:
        options.folder.mkdir(parents=True, exist_ok=True)
        counts = [int(item) for item in options.ranks.split(",")]
        table(options.folder, counts, [item for item in options.only.split(",") if item])


if __name__ == "__main__":
    main()

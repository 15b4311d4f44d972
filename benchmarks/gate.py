"""What `optimize check` catches and what it leaves alone, over repeats.

    python benchmarks/gate.py FOLDER [--repeats 20] [--threads N] [--table benchmarks/gate.md]

compiles the tagger of the examples to int8 and plants three faults in copies of the artifact:
products whose result is multiplied by zero, as many as take a fifth of its time; a class that is
preferred by so much that two more of a hundred first choices change; an embedding in float32. Each
copy, and the artifact itself, is then held to baselines of the artifact again and again, a new one
every ten repeats. A fault is caught where the exit code is 1 and its own row is the one that
fails; noise is caught where the artifact itself fails. The last two faults are not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from burnish.optimizer import roles, user_data
from burnish.optimizer.model import load

TAGGER = Path(__file__).parent.parent / "examples" / "tagger"
MODEL = TAGGER / "model.onnx"
DATA = TAGGER / "sentences.txt"

BATCH, LENGTH = 8, 128
PIECES, LABELS = 8000, 7
SLOWER, LOSS = 0.2, 0.02
WIDTH, MANY, TURNS = 96, 32, 80
PER_BASELINE = 10

FAULTS = {"none": "", "20 % slower": "latency", "2 % more loss": "loss", "larger": "size"}
"""What is planted, and the row that has to fail."""

UNTIMED, QUICK = ("loss", "size"), "--no-measure"


def optimize(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The program."""
    command = [sys.executable, "-m", "burnish", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def done(*arguments: object) -> dict[str, Any]:
    """The report of a command that must succeed."""
    result = optimize(*arguments, "--json", "-", "-q")
    if result.returncode:
        sys.exit(result.stderr)
    return dict(json.loads(result.stdout))


def logits_renamed(model: onnx.ModelProto) -> str:
    """Give the output's name away; the name that its values have now."""
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == "logits":
                node.output[index] = "logits_before"
    return "logits_before"


def slowed(source: Path, target: Path, count: int) -> None:
    """Add so many products of [tokens, width] and one weight, and zero times what they give."""
    model = onnx.load(source)
    before = logits_renamed(model)
    random = np.random.default_rng(0)
    weight = (random.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)).astype(np.float32)
    constants = {
        "slow.axis": np.array([2]), "slow.row": np.full((1, WIDTH), 1e-4, np.float32),
        "slow.zero": np.array(0, np.float32), "slow.weight": weight, "slow.mean": np.array([2]),
    }  # fmt: skip
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in constants.items()
    )
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["slow.ids"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["slow.ids", "slow.axis"], ["slow.column"]),
        helper.make_node("MatMul", ["slow.column", "slow.row"], ["slow.0"]),
        *(
            helper.make_node("MatMul", [f"slow.{index}", "slow.weight"], [f"slow.{index + 1}"])
            for index in range(count)
        ),
        helper.make_node("ReduceMean", [f"slow.{count}", "slow.mean"], ["slow.one"], keepdims=1),
        helper.make_node("Mul", ["slow.one", "slow.zero"], ["slow.none"]),
        helper.make_node("Add", [before, "slow.none"], ["logits"]),
    ]
    model.graph.node.extend(nodes)
    onnx.save(model, target)


def biased(source: Path, target: Path, bias: float) -> None:
    """Prefer one class to the others."""
    model = onnx.load(source)
    before = logits_renamed(model)
    array = np.zeros(LABELS, np.float32)
    array[1] = bias
    model.graph.initializer.append(numpy_helper.from_array(array, "bias.class"))
    model.graph.node.append(helper.make_node("Add", [before, "bias.class"], ["logits"]))
    onnx.save(model, target)


def slowdown(artifact: Path, other: Path, threads: int) -> float:
    """Processor time of one over that of the other, the median over runs in turn.

    Other work on the machine hardly changes processor time.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    sessions = [
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for path in (artifact, other)
    ]
    ids = np.random.default_rng(0).integers(3, PIECES, (BATCH, LENGTH))
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    taken = []
    for _ in range(TURNS):
        for session in sessions:
            start = time.process_time()
            session.run(None, feed)
            taken.append(time.process_time() - start)
    pairs = np.array(taken).reshape(TURNS, 2)
    return float(np.median(pairs[:, 1] / pairs[:, 0]))


def plant_slowdown(artifact: Path, target: Path, threads: int) -> str:
    """Add as many products as make it a fifth slower; what that is, in words."""
    slowed(artifact, target, MANY)
    each = (slowdown(artifact, target, threads) - 1) / MANY
    count = max(1, round(SLOWER / each))
    slowed(artifact, target, count)
    found = slowdown(artifact, target, threads)
    return f"{count} products: {found:.3f} times the artifact's processor time"


def plant_loss(artifact: Path, target: Path) -> str:
    """Find the bias at which the loss is two points more; what it is, in words."""
    slots = roles.slots(load(MODEL).model)
    feeds = user_data.read(DATA, slots, TAGGER / "tokenizer.json").feeds
    answers = []
    for path in (MODEL, artifact):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        logits = [session.run(None, feed)[0].reshape(-1, LABELS) for feed in feeds]
        answers.append(np.concatenate(logits))
    reference = answers[0].argmax(axis=1)

    def loss(bias: float) -> float:
        other = answers[1] + bias * (np.arange(LABELS) == 1)
        return float((other.argmax(axis=1) != reference).mean())

    low, high = 0.0, 16.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if loss(middle) - loss(0.0) < LOSS else (low, middle)
    biased(artifact, target, high)
    return f"{loss(0.0):.4f} becomes {loss(high):.4f}"


def plant_growth(artifact: Path, target: Path) -> str:
    """Compile with the embedding in float32; how much larger that is, in words."""
    done(MODEL, "--int8", "--no-measure", "--keep-embeddings", "-o", target)
    return f"{target.stat().st_size / artifact.stat().st_size:.3f} times the bytes"


def check(path: Path, against: Path, threads: int, *options: object) -> dict[str, Any]:
    """One check: exit code, rows, seconds."""
    start = time.monotonic()
    given = ("--optimized", path, "--data", DATA, "--threads", threads)
    result = optimize("check", MODEL, "--against", against, *given, "--json", "-", "-q", *options)
    if result.returncode not in (0, 1):
        sys.exit(result.stderr)
    facts = json.loads(result.stdout)
    return {
        "code": result.returncode,
        "rows": {row["name"]: row for row in facts["rows"]},
        "rounds": facts["latency"]["rounds"] if facts["latency"] else 0,
        "ratio": 1 / facts["latency"]["speedup"] if facts["latency"] else None,
        "seconds": time.monotonic() - start,
        "load": os.getloadavg()[0],
    }


def line(name: str, what: str, runs: list[dict[str, Any]]) -> str:
    """A row of the table."""
    wanted = FAULTS[name]
    rows = [run["rows"] for run in runs]
    failed = [[key for key, row in item.items() if row["status"] == "FAILED"] for item in rows]
    ones = sum(run["code"] == 1 for run in runs)
    right = sum(item == ([wanted] if wanted else []) for item in failed)
    rounds = sorted(run["rounds"] for run in runs)
    changes = sorted(item[wanted or "latency"]["change"] for item in rows)
    cells = [
        name, what, f"{ones} of {len(runs)}", f"{right} of {len(runs)}",
        f"{changes[0]:.3f} to {changes[-1]:.3f}, {statistics.median(changes):.3f}",
        f"{rounds[0]} to {rounds[-1]}, {statistics.median(rounds):g}" if rounds[0] else "",
        f"{statistics.median(run['seconds'] for run in runs):.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def table(planted: dict[str, str], runs: dict[str, list[dict[str, Any]]], threads: int) -> str:
    """All of it in Markdown."""
    every = [run for item in runs.values() for run in item]
    loads = sorted(run["load"] for run in every)
    busy = (
        f"On {os.cpu_count()} cores {loads[0]:.1f} to {loads[-1]:.1f} threads wanted to run (the "
        f"load over a minute; median {statistics.median(loads):.1f}), {threads} of them the "
        "gate's: the machine was busy with other work."
    )
    spread = "Bounds: latency 1.1, size 1.05, loss 0.01."
    if ratios := [run["ratio"] for run in runs.get("none", [])]:
        spread = (
            f"The artifact's share of the input's time was {min(ratios):.3f} to {max(ratios):.3f} "
            f"over the {len(ratios)} repeats without a fault. {spread}"
        )
    heads = (
        "| planted | which is | exit code 1 | its row alone fails, or none | change that was seen, "
        "median | rounds, median | seconds |"
    )
    lines = [line(name, planted[name], item) for name, item in runs.items()]
    title = "# What the gate catches, and what it leaves alone"
    command = "`python benchmarks/gate.py FOLDER`: the tagger in int8, batch 8 x 128."
    return "\n".join(
        [title, "", command, busy, spread, "", heads, "|---|---|---|---|---|---|---|", *lines, ""]
    )


def main() -> None:
    """Plant, check, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    names = ("artifact", "slowed", "biased", "larger")
    files = [options.folder / f"{name}.onnx" for name in names]
    artifact, slow, bias, large = files
    against = options.folder / "baseline.json"
    done(MODEL, "--int8", "--no-measure", "-o", artifact)
    plants = {
        "none": lambda: "the artifact itself",
        "20 % slower": lambda: plant_slowdown(artifact, slow, options.threads),
        "2 % more loss": lambda: plant_loss(artifact, bias),
        "larger": lambda: plant_growth(artifact, large),
    }
    planted = {name: plants[name]() for name in options.faults}
    print(planted, flush=True)
    paths = dict(zip(FAULTS, (artifact, slow, bias, large), strict=True))
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in options.faults}
    timed = any(FAULTS[name] not in UNTIMED for name in options.faults)
    for repeat in range(options.repeats):
        if repeat % PER_BASELINE == 0:
            against.unlink(missing_ok=True)
            check(artifact, against, options.threads, "--update", *([] if timed else [QUICK]))
        for name in options.faults:
            quick = [QUICK] if FAULTS[name] in UNTIMED else []
            run = check(paths[name], against, options.threads, *quick)
            runs[name].append(run)
            row = run["rows"]["latency"]
            told = (repeat, name, run["code"], row["change"], row["interval"], run["rounds"])
            print(*told, f"{run['seconds']:.0f} s", f"load {run['load']:.1f}", flush=True)
        told = table(planted, runs, options.threads)
        if options.table:
            options.table.write_text(told)
    print(told)


if __name__ == "__main__":
    main()

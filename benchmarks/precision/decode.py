"""Decoding with weights in 4 bits: how near to the memory's speed, at batch 1.

    python benchmarks/precision/decode.py FOLDER [--layers 22]

builds a Llama-shaped decoder of 1.1 billion parameters that takes its caches (random weights) where
`FOLDER` lacks it, runs `optimize --int4`, and times steps of one token after 128 in stock sessions
(paired with the input, in separate processes). A step has to read all weights but the table of
embeddings, and the caches; the limit is those bytes at the rate at which two threads read memory,
measured in the same run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import onnx_ir as ir

from burnish.optimizer import sandbox
from burnish.optimizer.measure import Contest, Entrant
from burnish.optimizer.model import initializers, load
from burnish.optimizer.sandbox import Limits
from burnish.runtimes.arrays import write_arrays

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

OPTIMIZE = str(Path(sys.executable).with_name("optimize"))
STOPWATCH = "burnish.runtimes.work:stopwatch"
HEADS, SIZE, PAST, VOCABULARY = 4, 64, 128, 32000
READ_BYTES, READS = 1 << 30, 7
SECONDS = 40.0


def build(path: Path, layers: int) -> None:
    """Export the decoder with its caches as inputs and outputs."""
    import exporting
    import torch
    import transformers as hf

    config = hf.LlamaConfig(
        hidden_size=2048, intermediate_size=5632, num_hidden_layers=layers, num_attention_heads=32,
        num_key_value_heads=HEADS, vocab_size=VOCABULARY, attn_implementation="sdpa",
    )  # fmt: skip
    torch.manual_seed(0)
    module = exporting.Cached(hf.LlamaForCausalLM(config)).eval()
    ids, mask = torch.randint(0, 32000, (2, 4)), torch.ones((2, 9), dtype=torch.int64)
    past = tuple(torch.randn(2, HEADS, 5, SIZE) for _ in range(2 * layers))
    auto = torch.export.Dim.AUTO
    kept = tuple({0: auto, 2: auto} for _ in past)
    names = [f"past.{index}" for index in range(len(past))]
    program = torch.onnx.export(
        module, (ids, mask, *past), dynamo=True, opset_version=20, verbose=False,
        input_names=["input_ids", "attention_mask", *names],
        dynamic_shapes=({0: auto, 1: auto}, {0: auto, 1: auto}, kept),
    )  # fmt: skip
    ir.save(program.model, path, external_data=f"{path.name}.data")


def feed_of(model: ir.Model) -> dict[str, np.ndarray]:
    """One token after `PAST` others."""
    random = np.random.default_rng(0)
    feed = {}
    for value in model.graph.inputs:
        if value.name == "input_ids":
            feed[value.name] = np.array([[5]])
        elif value.name == "attention_mask":
            feed[value.name] = np.ones((1, PAST + 1), np.int64)
        else:
            shape = (1, HEADS, PAST, SIZE)
            feed[value.name or ""] = random.standard_normal(shape).astype(np.float32)
    return feed


def bytes_read(path: Path, feed: dict[str, np.ndarray]) -> int:
    """Weights that a step reads, and caches: tables that only lookups read give a row."""
    model = load(path).model
    total = sum(array.nbytes for array in feed.values())
    for value in initializers(model):
        readers = {use.node.op_type for use in value.uses()}
        if value.const_value is not None and not readers <= {"Gather", "GatherBlockQuantized"}:
            total += value.const_value.nbytes
    return total


def read_rate() -> float:
    """Bytes a second that two threads read, the best of several times."""
    parts = [np.ones(READ_BYTES // 8, np.float32) for _ in range(2)]
    best = 0.0
    for _ in range(READS):
        threads = [threading.Thread(target=part.max) for part in parts]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        best = max(best, sum(part.nbytes for part in parts) / (time.perf_counter() - start))
    return best


def main() -> None:
    """Build, optimize, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--build", action="store_true", help="build the model and stop")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    source = options.folder / f"decode-{options.layers}.onnx"
    if options.build:
        return build(source, options.layers)
    if not source.exists():
        command = [sys.executable, __file__, str(options.folder), "--build"]
        subprocess.run([*command, "--layers", str(options.layers)], check=True)
    target = options.folder / f"decode-{options.layers}.int4.onnx"
    command = [OPTIMIZE, str(source), "--int4", "--no-check", "-o", str(target), "-q"]
    subprocess.run([*command, "--shape", "batch=1,sequence=1,past=128"], check=True)
    feed = feed_of(load(source).model)
    with tempfile.TemporaryDirectory() as folder:
        write_arrays(Path(folder) / "feed", feed)
        entrants = {
            path.name: Entrant(path, Path(folder) / "feed") for path in (source, target)
        }  # fmt: skip
        with Contest(STOPWATCH, Limits(sandbox.default_memory(), 3600.0)) as contest:
            timing = contest.compare(entrants, SECONDS)[target.name]
    rate = read_rate()
    print(f"two threads read {rate / 1e9:.1f} GB/s\n")
    print("| model | GB a token | limit ms | ms | of the limit |\n|---|---|---|---|---|")
    for path, spent in ((source, timing.baseline_ms), (target, timing.candidate_ms)):
        read = bytes_read(path, feed)
        limit = read / rate * 1e3
        print(
            f"| {path.name} | {read / 1e9:.2f} | {limit:.1f} | {spent:.1f} | {limit / spent:.2f} |"
        )
    print(f"\n{timing.speedup:.2f} times faster ({timing.low:.2f} to {timing.high:.2f})")


if __name__ == "__main__":
    main()

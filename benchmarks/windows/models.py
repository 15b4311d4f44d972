"""Models with windows from end to end: `optimize` against stock ONNX Runtime and OpenVINO.

    python benchmarks/windows/models.py MODEL [--length 4096] [--layers N] [--openvino] [--folder F]
        [--apart]

`MODEL` is modernbert (base, 22 layers), mistral, gemma3 or phi3 (true widths, layers cut to
`--layers`, a window of 512, the head on the last token). It is exported by TorchScript with random
weights and free sizes; both files run in stock sessions of a process each, in alternating blocks.
With `--apart` no two sessions are there at once: each block opens its own.
The limit is Amdahl's: what the input takes, less the time by which its windowed attentions, timed
by themselves (`attention.py`), get shorter.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import attention
import numpy as np
import torch
import transformers
from attention import Kind

from burnish.optimizer import sandbox
from burnish.optimizer.measure import Contest, Entrant, Timing, timing
from burnish.optimizer.sandbox import Limits
from burnish.runtimes.arrays import read_arrays, write_arrays
from burnish.runtimes.providers import PROVIDERS

WINDOW = 512
SECONDS = 20.0
"""Time given to each comparison, at least."""

ROUNDS = 4
"""Blocks of each model that is timed apart."""

LIMITS = Limits(sandbox.default_memory(), 7200.0)
Entrants = dict[str, Entrant]
Comparison = Callable[[Entrants], dict[str, Timing]]


class LastToken(torch.nn.Module):
    """A decoder whose head runs on the last token only."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.body, self.head = model.model, model.lm_head

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Scores of the next token, [batch, vocabulary]."""
        out = self.body(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        return self.head(out.last_hidden_state[:, -1])


class Hidden(torch.nn.Module):
    """An encoder's hidden states."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.body = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """[batch, sequence, hidden]."""
        return self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def _decoder(name: str, **settings: Any) -> Callable[[int], torch.nn.Module]:
    def build(layers: int) -> torch.nn.Module:
        config = getattr(transformers, f"{name}Config")(
            num_hidden_layers=layers, attn_implementation="sdpa", sliding_window=WINDOW,
            max_position_embeddings=32768, **settings,
        )  # fmt: skip
        kind = name.removesuffix("Text")
        return LastToken(getattr(transformers, f"{kind}ForCausalLM")(config))

    return build


def _modernbert(layers: int) -> torch.nn.Module:
    config = transformers.ModernBertConfig(attn_implementation="sdpa", num_hidden_layers=layers)
    return Hidden(transformers.ModernBertModel(config))


MISTRAL = {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 32000}  # fmt: skip
GEMMA = {"hidden_size": 2560, "intermediate_size": 10240, "num_attention_heads": 8,
         "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 32000}  # fmt: skip
PHI = {"hidden_size": 3072, "intermediate_size": 8192, "num_attention_heads": 32,
       "num_key_value_heads": 32, "vocab_size": 32064, "pad_token_id": 0}  # fmt: skip

MODELS: dict[str, tuple[Callable[[int], torch.nn.Module], int, Kind]] = {
    "modernbert": (_modernbert, 22, Kind(12, 12, 64, 64, 64)),
    "mistral": (_decoder("Mistral", **MISTRAL), 2, Kind(32, 8, 128, WINDOW - 1, 0)),
    "gemma3": (_decoder("Gemma3Text", **GEMMA), 6, Kind(8, 4, 256, WINDOW - 1, 0)),
    "phi3": (_decoder("Phi3", **PHI), 2, Kind(32, 32, 96, WINDOW - 1, 0)),
}
"""How each is built, its layers, and its windowed attentions (of 32,000 words all)."""


def local_layers(name: str, layers: int) -> int:
    """How many of the layers have a window."""
    if name == "modernbert":
        return layers - len(range(0, layers, 3))
    return layers - layers // 6 if name == "gemma3" else layers


def export(path: Path, module: torch.nn.Module) -> None:
    """The model with a free batch and length."""
    warnings.simplefilter("ignore")
    ids = torch.randint(3, 1000, (2, 40))
    names = ["input_ids", "attention_mask"]
    with torch.no_grad():
        torch.onnx.export(
            module.eval(), (ids, torch.ones_like(ids)), str(path), input_names=names,
            output_names=["output"], opset_version=17, dynamo=False,
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name in names},
        )  # fmt: skip


def optimized(source: Path, target: Path) -> None:
    """What `optimize` makes of a model for one sequence."""
    command = [str(Path(sys.executable).with_name("optimize")), str(source), "-o", str(target)]
    subprocess.run([*command, "--shape", "batch=1"], check=True)


def compared(entrants: Entrants) -> dict[str, Timing]:
    """Each one's time against the first one's."""
    with Contest(attention.STOPWATCH, LIMITS) as contest:
        return contest.compare(entrants, SECONDS)


def _block(path: Path, feed: dict[str, np.ndarray]) -> float:
    session = PROVIDERS["cpu"].open(path)
    session.run(None, feed)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def apart(entrants: Entrants) -> dict[str, Timing]:
    """As `compared`, on the processor, holding one session at a time."""
    blocks: dict[str, list[float]] = {name: [] for name in entrants}
    for _ in range(ROUNDS):
        for name, entrant in entrants.items():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                block = pool.submit(_block, entrant.path, read_arrays(entrant.feeds))
                blocks[name].append(block.result())
    first, *others = entrants
    return {name: timing(blocks[first], blocks[name]) for name in others}


def shorter(folder: Path, kind: Kind, length: int, compare: Comparison) -> tuple[float, float]:
    """Milliseconds of one windowed attention by itself, dense and as it is written here."""
    source, target, feed = (folder / name for name in ("dense.onnx", "blocks.onnx", "operands"))
    attention.export(source, kind)
    optimized(source, target)
    write_arrays(feed, attention.feed_of(length, kind))
    ours = compare({"dense": Entrant(source, feed), "ours": Entrant(target, feed)})["ours"]
    return ours.baseline_ms, ours.candidate_ms


def main() -> None:
    """Export, optimize, compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=0)
    parser.add_argument("--openvino", action="store_true")
    parser.add_argument("--apart", action="store_true", help="hold one session at a time")
    parser.add_argument("--alone", action="store_true", help="the input does not fit: ours only")
    parser.add_argument("--folder", type=Path, help="where models are kept and found again")
    arguments = parser.parse_args()
    build, layers, kind = MODELS[arguments.model]
    layers = arguments.layers or layers
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        source = folder / f"{arguments.model}-{layers}.onnx"
        target = source.with_suffix(".opt.onnx")
        if not source.exists():
            torch.manual_seed(0)
            export(source, build(layers))
        if not target.exists():
            optimized(source, target)
        ids = np.random.default_rng(0).integers(3, 30000, (1, arguments.length))
        feed = folder / "feed"
        arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        write_arrays(feed, arrays)
        entrants = {"input": Entrant(source, feed), "ours": Entrant(target, feed)}
        if arguments.alone:
            entrants = {"ours": Entrant(target, feed), "again": Entrant(target, feed)}
            print(f"{compared(entrants)['again'].baseline_ms:.0f} ms")
            return
        if arguments.openvino:
            entrants["openvino"] = Entrant(source, feed, "openvino")
        first, second = (attention.answer(path, arrays) for path in (source, target))
        error = float(np.linalg.norm(second - first) / np.linalg.norm(first))
        compare = apart if arguments.apart else compared
        timings = compare(entrants)
        ours = timings["ours"]
        dense, blocks = shorter(folder, kind, arguments.length, compare)
        gained = local_layers(arguments.model, layers) * (dense - blocks)
        limit = ours.baseline_ms / (ours.baseline_ms - gained)
        faster = f"{ours.speedup:.2f} ({ours.low:.2f} to {ours.high:.2f})"
        row = {
            "model": arguments.model,
            "layers": str(layers),
            "tokens": str(arguments.length),
            "ms": f"{ours.baseline_ms:.0f}",
            "ours, ms": f"{ours.candidate_ms:.0f}",
            "times faster": faster,
            "attention": f"{dense / blocks:.1f}",
            "limit": f"{limit:.2f}",
            "of it": f"{ours.speedup / limit:.2f}",
            "error": f"{error:.1e}",
        }
        if arguments.openvino:
            row["OpenVINO ms"] = f"{timings['openvino'].candidate_ms:.0f}"
        for cells in (row, ["---"] * len(row), row.values()):
            print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

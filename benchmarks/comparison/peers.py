"""The tools that are compared, their packages, and the commands that their documentation gives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HEADS, WIDTH = 12, 384
"""MiniLM's, for those who have to be told."""

BERT = f"type bert, {HEADS} heads, width {WIDTH}"

Command = Callable[[Path, Path, Path, Path], list[str]]
"""Makes a command from an interpreter, the input, the output and the checkpoint's folder."""


@dataclass(frozen=True)
class Job:
    """What a tool is asked for.

    Attributes:
        command: see `Command`; it writes the output file.
        told: what the user has to know of the model.
    """

    command: Command
    told: str = ""


@dataclass(frozen=True)
class Peer:
    """One tool.

    Attributes:
        name: how the table calls it.
        packages: what is installed, the tool itself first.
        jobs: by what it is asked for.
        here: whether it is the program of this environment.
    """

    name: str
    packages: tuple[str, ...]
    jobs: dict[str, Job] = field(default_factory=dict)
    here: bool = False


def _burnish(*options: str) -> Job:
    def command(python: Path, source: Path, target: Path, checkpoint: Path) -> list[str]:
        return [str(python), "-m", "burnish", str(source), "-o", str(target), "-q", *options]

    return Job(command)


def _snippet(code: str, told: str = "") -> Job:
    def command(python: Path, source: Path, target: Path, checkpoint: Path) -> list[str]:
        return [str(python), "-c", code, str(source), str(target), str(checkpoint)]

    return Job(command, told)


SIMPLIFY = """
import sys, onnx, onnxsim
model, ok = onnxsim.simplify(sys.argv[1])
onnx.save(model, sys.argv[2])
"""

SLIM = """
import sys, onnx, onnxslim
onnx.save(onnxslim.slim(sys.argv[1]), sys.argv[2])
"""

FUSE = f"""
import sys
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model
model = optimize_model(sys.argv[1], "bert", num_heads={HEADS}, hidden_size={WIDTH},
                       optimization_options=FusionOptions("bert"))
model.save_model_to_file(sys.argv[2])
"""

QUANTIZE = """
import sys
from onnxruntime.quantization import QuantType, quantize_dynamic
quantize_dynamic(sys.argv[1], sys.argv[2], per_channel=True, weight_type=QuantType.QInt8)
"""

FUSE_AND_QUANTIZE = (
    FUSE.replace("sys.argv[2])", "sys.argv[2] + '.fused')")
    + """
import os
from onnxruntime.quantization import QuantType, quantize_dynamic
fused = sys.argv[2] + ".fused"
quantize_dynamic(fused, sys.argv[2], per_channel=True, weight_type=QuantType.QInt8)
os.remove(fused)
"""
)

OPTIMUM = """
import pathlib, shutil, sys, tempfile
from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTOptimizer
from optimum.onnxruntime.configuration import AutoOptimizationConfig
source, target, checkpoint = map(pathlib.Path, sys.argv[1:])
with tempfile.TemporaryDirectory() as folder:
    home = pathlib.Path(folder) / "in"
    home.mkdir()
    shutil.copy(source, home / "model.onnx")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        if (checkpoint / name).exists():
            shutil.copy(checkpoint / name, home / name)
    model = ORTModelForFeatureExtraction.from_pretrained(home, file_name="model.onnx")
    made = pathlib.Path(folder) / "out"
    ORTOptimizer.from_pretrained(model).optimize(
        save_dir=made, optimization_config=AutoOptimizationConfig.O2())
    shutil.copy(next(made.glob("*.onnx")), target)
"""

OPTIMUM_QUANTIZE = """
import pathlib, shutil, sys, tempfile
from optimum.onnxruntime import ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig
source, target, checkpoint = map(pathlib.Path, sys.argv[1:])
with tempfile.TemporaryDirectory() as folder:
    home = pathlib.Path(folder) / "in"
    home.mkdir()
    shutil.copy(source, home / "model.onnx")
    shutil.copy(checkpoint / "config.json", home / "config.json")
    made = pathlib.Path(folder) / "out"
    ORTQuantizer.from_pretrained(home, file_name="model.onnx").quantize(
        save_dir=made,
        quantization_config=AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True))
    shutil.copy(next(made.glob("*.onnx")), target)
"""


def _olive(*passes: dict[str, object]) -> Job:
    """`olive run` with a configuration of these passes."""

    def command(python: Path, source: Path, target: Path, checkpoint: Path) -> list[str]:
        out = target.parent / "olive"
        shutil.rmtree(out, ignore_errors=True)
        config = {
            "input_model": {"type": "ONNXModel", "model_path": str(source)},
            "systems": {
                "local": {
                    "type": "LocalSystem",
                    "accelerators": [
                        {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
                    ],
                }
            },
            "passes": {str(item["type"]): item for item in passes},
            "host": "local", "target": "local", "output_dir": str(out),
            "cache_dir": str(target.parent / "cache"), "evaluate_input_model": False,
        }  # fmt: skip
        (target.parent / "olive.json").write_text(json.dumps(config, indent=2))
        run = (
            "import os, pathlib, shutil, sys\n"
            "os.environ['OLIVE_DISABLE_TELEMETRY'] = '1'\n"
            "from olive import run\n"
            "run(sys.argv[1])\n"
            "shutil.copy(next(pathlib.Path(sys.argv[2]).rglob('*.onnx')), sys.argv[3])\n"
        )
        paths = (target.parent / "olive.json", out, target)
        return [str(python), "-c", run, *map(str, paths)]

    return Job(command, BERT)


OLIVE_FUSE = {
    "type": "OrtTransformersOptimization", "model_type": "bert", "num_heads": HEADS,
    "hidden_size": WIDTH,
}  # fmt: skip
OLIVE_QUANTIZE = {"type": "OnnxDynamicQuantization", "per_channel": True}

PEERS = (
    Peer("burnish", (), {"fp32": _burnish(), "int8": _burnish("--int8")}, here=True),
    Peer(
        "onnxruntime", ("onnxruntime", "onnx", "sympy", "coloredlogs", "torch"),
        {
            "fp32": _snippet(FUSE, BERT),
            "int8": _snippet(QUANTIZE),
            "int8 of fused": _snippet(FUSE_AND_QUANTIZE, BERT),
        },
    ),
    Peer("onnxsim", ("onnxsim", "onnxruntime", "onnx"), {"fp32": _snippet(SIMPLIFY)}),
    Peer("onnxslim", ("onnxslim", "onnxruntime", "onnx"), {"fp32": _snippet(SLIM)}),
    Peer(
        "optimum", ("optimum-onnx", "onnxruntime", "torch"),
        {
            "fp32": _snippet(OPTIMUM, "the checkpoint's config.json"),
            "int8": _snippet(OPTIMUM_QUANTIZE, "the checkpoint's config.json"),
        },
    ),
    Peer(
        "olive",
        # Its release imports requests and does not ask for it.
        ("olive-ai", "onnxruntime", "onnx", "requests"),
        {"fp32": _olive(OLIVE_FUSE), "int8 of fused": _olive(OLIVE_FUSE, OLIVE_QUANTIZE)},
    ),
)  # fmt: skip

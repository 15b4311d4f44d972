"""NNCF's post-training int8 for OpenVINO, in an interpreter that has both.

    python benchmarks/precision/nncf_peer.py MODEL FEEDS OUTPUT

`FEEDS` is a folder of `.npz` files, one feed each.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nncf
import numpy as np
import openvino


def main() -> None:
    """Quantize, calibrated on all feeds; the model is told to be a Transformer."""
    source, folder, target = map(Path, sys.argv[1:4])
    feeds = [dict(np.load(file)) for file in sorted(folder.glob("*.npz"))]
    model = openvino.Core().read_model(source)
    quantized = nncf.quantize(
        model,
        nncf.Dataset(feeds),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(feeds),
    )
    openvino.save_model(quantized, target, compress_to_fp16=False)


if __name__ == "__main__":
    main()

"""Layers of fixed windows on images of 4 x 4 tokens, as exporters write them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto
from samples import Builder

SIDE, WINDOW, WIDTH, HEADS = 4, 2, 4, 2
WINDOWS, TOKENS = (SIDE // WINDOW) ** 2, WINDOW * WINDOW


class Stage(Builder):
    """Writes windowed layers; the batch is open."""

    def sizes(self, *numbers: int) -> str:
        """An initializer of integers, one for equal ones."""
        name = "sizes_" + "_".join(map(str, numbers)).replace("-", "m")
        if name not in {tensor.name for tensor in self.weights}:
            self.constant(name, numbers, np.int64)
        return name

    def shaped(self, x: str, name: str, *sizes: int) -> str:
        return self.op("Reshape", [x, self.sizes(*sizes)], name)

    def rolled(self, x: str, name: str, shift: int) -> str:
        """[batch, side, side, width] moved around along both sides."""
        for axis in (1, 2):
            for index, (start, end) in enumerate([(shift, 1 << 31), (0, shift)]):
                bounds = [self.sizes(start), self.sizes(end), self.sizes(axis)]
                self.op("Slice", [x, *bounds], f"{name}.{axis}.{index}")
            x = self.op(
                "Concat", [f"{name}.{axis}.0", f"{name}.{axis}.1"], f"{name}.{axis}", axis=axis
            )
        return x

    def partitioned(self, x: str, name: str) -> str:
        """[batch, side, side, width] as [batch * windows, tokens, width]."""
        count = SIDE // WINDOW
        self.shaped(x, f"{name}.apart", -1, count, WINDOW, count, WINDOW, WIDTH)
        self.op("Transpose", [f"{name}.apart"], f"{name}.turned", perm=[0, 1, 3, 2, 4, 5])
        return self.shaped(f"{name}.turned", name, -1, TOKENS, WIDTH)

    def reversed(self, x: str, name: str) -> str:
        """The way back, to [batch, side, side, width]."""
        count = SIDE // WINDOW
        self.shaped(x, f"{name}.apart", -1, count, count, WINDOW, WINDOW, WIDTH)
        self.op("Transpose", [f"{name}.apart"], f"{name}.turned", perm=[0, 1, 3, 2, 4, 5])
        return self.shaped(f"{name}.turned", name, -1, SIDE, SIDE, WIDTH)

    def attention(self, x: str, name: str, *, flat: bool) -> str:
        """[batch * windows, tokens, width] attended window by window."""
        self.normal(f"{name}.bias", 1, HEADS, TOKENS, TOKENS)
        for part in "qkv":
            self.linear(x, f"{name}.{part}", WIDTH, WIDTH)
        if flat:
            operands = [*(f"{name}.{part}" for part in "qkv"), f"{name}.bias"]
            heads = {"q_num_heads": HEADS, "kv_num_heads": HEADS}
            self.op("Attention", operands, f"{name}.joined", **heads)
            return self.linear(f"{name}.joined", f"{name}.out", WIDTH, WIDTH)
        for part in "qkv":
            self.shaped(f"{name}.{part}", f"{name}.{part}4", 0, 0, HEADS, WIDTH // HEADS)
            self.op("Transpose", [f"{name}.{part}4"], f"{name}.{part}h", perm=[0, 2, 1, 3])
        operands = [*(f"{name}.{part}h" for part in "qkv"), f"{name}.bias"]
        self.op("Attention", operands, f"{name}.mixed")
        self.op("Transpose", [f"{name}.mixed"], f"{name}.mixed4", perm=[0, 2, 1, 3])
        self.shaped(f"{name}.mixed4", f"{name}.joined", 0, 0, WIDTH)
        return self.linear(f"{name}.joined", f"{name}.out", WIDTH, WIDTH)

    def block(self, x: str, name: str, shift: int, *, flat: bool) -> str:
        """A layer on [batch, tokens of all windows, width]."""
        normed = self.norm(x, f"{name}.norm", WIDTH)
        image = self.shaped(normed, f"{name}.image", -1, SIDE, SIDE, WIDTH)
        image = self.rolled(image, f"{name}.roll", shift) if shift else image
        windows = self.partitioned(image, f"{name}.windows")
        attended = self.attention(windows, f"{name}.attention", flat=flat)
        image = self.reversed(attended, f"{name}.reversed")
        image = self.rolled(image, f"{name}.back", -shift) if shift else image
        flat = self.shaped(image, f"{name}.flat", -1, SIDE * SIDE, WIDTH)
        return self.op("Add", [x, flat], f"{name}.sum")

    def merged(self, x: str, name: str) -> str:
        """Each 2 x 2 tokens as one: [batch, tokens, width] as [batch, tokens / 4, 4 * width]."""
        image = self.shaped(x, f"{name}.image", -1, SIDE, SIDE, WIDTH)
        ends, axes = self.sizes(SIDE, SIDE), self.sizes(1, 2)
        parts = []
        for row, column in ((0, 0), (1, 0), (0, 1), (1, 1)):
            parts.append(f"{name}.{row}{column}")
            bounds = [self.sizes(row, column), ends, axes, self.sizes(2, 2)]
            self.op("Slice", [image, *bounds], parts[-1])
        self.op("Concat", parts, f"{name}.joined", axis=3)
        return self.shaped(f"{name}.joined", name, -1, SIDE * SIDE // 4, 4 * WIDTH)


def stage(*shifts: int, flat: bool = False, opset: int = 23) -> onnx.ModelProto:
    """Blocks with these shifts from `x` to `y`, and patches merged at the end.

    Where they are `flat`, no heads are split off, and `x` is [batch, width, tokens].
    """
    b = Stage()
    sizes = [WIDTH, SIDE * SIDE] if flat else [SIDE * SIDE, WIDTH]
    x = b.input("x", TensorProto.FLOAT, ["batch", *sizes])
    if flat:
        x = b.op("Transpose", [x], "tokens", perm=[0, 2, 1])
    for index, shift in enumerate(shifts):
        x = b.block(x, f"block{index}", shift, flat=flat)
    b.linear(b.merged(x, "merge"), "reduced", 4 * WIDTH, 2 * WIDTH)
    b.op("Relu", ["reduced"], "y")
    b.output("y", TensorProto.FLOAT, ["batch", SIDE * SIDE // 4, 2 * WIDTH])
    return b.message(opset)

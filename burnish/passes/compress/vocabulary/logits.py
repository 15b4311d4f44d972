"""Heads: products whose columns are tokens, and what becomes of their results up to outputs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.matching import optional
from burnish.optimizer.forms import FUSED
from burnish.passes.compress.vocabulary.cuts import Cuts, Refused

COLUMNS = {
    ("", "MatMul"): (1,),
    ("", "Gemm"): (1, 2),
    ("", "MatMulInteger"): (1, 3),
    (FUSED, "MatMulIntegerToFloat"): (1, 3, 5, 6),
    (FUSED, "DynamicQuantizeMatMul"): (1, 2, 3, 4),
    (FUSED, "MatMulNBits"): (1, 2, 3, 5),
}
"""Products, and their inputs that have an element, or a slice, for each column."""

BLOCKS = "MatMulNBits"
"""The one whose weight is stored by columns, in blocks, and that says how many there are."""

ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Where", "Max", "Min", "Pow"}
UNARY = {"Cast", "Identity", "Neg", "Tanh", "Sigmoid", "Clip", "Relu", "Erf", "Softplus", "Abs"}
MEASURED = {"Shape", "Size"}

OTHER_AXES = {"Unsqueeze", "Squeeze", "Slice", "Gather", "Transpose", "Reshape", "Expand"}
"""Operators that may leave the last axis as it is; whether they do, shapes tell."""

COMPUTED = 3
"""Steps that an operand is followed back by."""


@dataclass
class Heads:
    """Follows logits forward, and plans to cut what they meet.

    Attributes:
        cuts: the plan.
        nodes: the products.
        outputs: outputs of the graph whose last axis is the vocabulary.
    """

    cuts: Cuts
    nodes: list[ir.Node] = field(default_factory=list)
    outputs: list[ir.Value] = field(default_factory=list)

    def before(self, output: ir.Value) -> None:
        """Plan with the product that an output comes from.

        Raises:
            Refused: there is none, or it cannot be cut.
        """
        products, seen, stack = [], {output}, [output]
        while stack:
            node = stack.pop().producer()
            if node is None:
                continue
            if (node.domain, node.op_type) in COLUMNS and self._columns(node) == self.cuts.rows:
                products.append(node)
                continue
            passes = node.domain == "" and node.op_type in ELEMENTWISE | UNARY | OTHER_AXES
            taken = node.inputs if node.op_type in ELEMENTWISE else node.inputs[:1]
            fresh = {item for item in taken if passes and item is not None} - seen
            seen |= fresh
            stack += fresh
        if not products:
            maker = output.producer()
            raise Refused(maker or output.name or "", f"{output.name} comes from no product")
        for node in products:
            if node not in self.nodes:
                self.begin(node)
        if output not in self.outputs:
            raise Refused(output.name or "", "what it is made of cannot be followed")

    def _columns(self, node: ir.Node) -> int:
        """How many columns a product has; 0 where that is not known."""
        if node.op_type == BLOCKS:
            return node.attributes.get_int("N", 0)
        weight = node.inputs[1]
        if weight is None or weight.shape is None or len(weight.shape) != 2:
            return 0
        size = weight.shape[self._axis(node, 1, weight)]
        return size if isinstance(size, int) else 0

    def begin(self, node: ir.Node) -> None:
        """Plan to cut a product's columns, and follow what it gives."""
        self.nodes.append(node)
        blocks = node.op_type == BLOCKS
        if blocks:
            self.cuts.counted.append(node)
        if self._columns(node) != self.cuts.rows:
            raise Refused(node, "its columns are not the vocabulary")
        for index in COLUMNS[node.domain, node.op_type]:
            value = optional(node, index)
            if value is None:
                continue
            if index > 1 and not blocks and self._is_for_all(value):
                self.cuts.reads.add((node, index))
                continue
            self.cuts.operand(node, index, self._axis(node, index, value))
        self.follow(node.outputs[0])

    def _axis(self, node: ir.Node, index: int, value: ir.Value) -> int:
        """The axis of an operand that columns are along."""
        if node.op_type == BLOCKS or (node.op_type == "Gemm" and index == 1):
            stored = node.op_type == BLOCKS or bool(node.attributes.get_int("transB", 0))
            return 0 if stored else 1
        shape = value.shape
        return max(0, len(shape) - 1) if shape is not None else 1

    @staticmethod
    def _is_for_all(value: ir.Value) -> bool:
        """Whether an operand is one number."""
        return value.const_value is not None and value.const_value.size == 1

    def follow(self, value: ir.Value) -> None:
        """Plan with what reads logits, whose last axis is the vocabulary."""
        stack = [value]
        while stack:
            current = stack.pop()
            self.cuts.wide[current] = -1
            if current.is_graph_output() and current not in self.outputs:
                self.outputs.append(current)
            for use in current.uses():
                if (use.node, use.idx) in self.cuts.reads:
                    continue
                self.cuts.reads.add((use.node, use.idx))
                result = self._passed(use.node, use.idx)
                if result is not None and result not in self.cuts.wide:
                    stack.append(result)

    def _passed(self, node: ir.Node, index: int) -> ir.Value | None:
        """What an operator makes of logits, again with the vocabulary last; None for nothing."""
        if node.domain == "" and node.op_type in MEASURED:
            return None
        if node.domain == "" and node.op_type in UNARY and index == 0:
            return node.outputs[0]
        if node.domain == "" and node.op_type in ELEMENTWISE:
            for other in range(len(node.inputs)):
                if other != index:
                    self._beside(node, other, COMPUTED)
            return node.outputs[0]
        if node.domain == "" and node.op_type in OTHER_AXES and index == 0:
            self._reshaped(node)
            return node.outputs[0]
        raise Refused(node, f"{node.op_type} reads logits, and needs all of them")

    def _beside(self, node: ir.Node, index: int, depth: int) -> bool:
        """Plan with an operand beside logits; whether it has the vocabulary as its last axis."""
        value = node.inputs[index]
        if value is None or (node, index) in self.cuts.reads:
            return value is not None
        shape = value.shape
        if value in self.cuts.wide:
            self.cuts.reads.add((node, index))
            return True
        if shape is not None and (len(shape) == 0 or shape[-1] == 1):
            return False
        if value.const_value is not None and value.producer() is None and shape is not None:
            self.cuts.operand(node, index, len(shape) - 1)
            return True
        maker = value.producer()
        known = maker is not None and maker.domain == "" and maker.op_type in ELEMENTWISE | UNARY
        if maker is None or not known or depth == 0:
            raise Refused(node, f"{value.name} meets logits, and its axes are not known")
        found = [self._beside(maker, other, depth - 1) for other in range(len(maker.inputs))]
        if not any(found):
            raise Refused(node, f"{value.name} meets logits, and its axes are not known")
        self.cuts.reads.add((node, index))
        self.cuts.wide[value] = -1
        return True

    def _reshaped(self, node: ir.Node) -> None:
        """Plan with an operator on other axes; its sizes may name that of the vocabulary."""
        shape = node.outputs[0].shape
        if shape is None or len(shape) == 0 or shape[-1] != self.cuts.rows:
            raise Refused(node, f"{node.op_type} takes the vocabulary apart")
        rank = len(node.inputs[0].shape or ()) if node.inputs[0] is not None else 0
        axis = node.attributes.get_int("axis", 0)
        if node.op_type == "Gather" and axis % max(rank, 1) == max(rank, 1) - 1:
            raise Refused(node, "it takes logits in another order")
        if node.op_type in ("Reshape", "Expand"):
            self._sizes(node, 1)

    def _sizes(self, node: ir.Node, index: int) -> None:
        """Let the last of the sizes that a node reads be the new one, where it is the old one."""
        value = node.inputs[index]
        maker = value.producer() if value is not None else None
        if maker is not None and maker.op_type == "Concat":
            node, index = maker, len(maker.inputs) - 1
            value = maker.inputs[index]
        tensor = value.const_value if value is not None else None
        sizes = np.array(tensor.numpy()) if tensor is not None else np.zeros(0)
        if sizes.size and sizes[-1] == self.cuts.rows:
            sizes[-1] = len(self.cuts.kept)
            self.cuts.edits.append((node, index, sizes))

"""Operators in PyTorch: what ONNX Runtime computes, and gradients that differences confirm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness import run_model
from onnx import TensorProto
from samples import Builder

from burnish.optimizer.contract import relative_l2
from burnish.optimizer.errors import UnsupportedModel
from burnish.training.network import Network
from burnish.training.operators import OPERATORS

X = [2, 6, 8]
INT = np.int64

CASES: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("Add", [[8]], {}), ("Div", [[1, 8]], {}), ("Pow", [np.float32(2.0)], {}),
    ("Gelu", [], {}), ("Gelu", [], {"approximate": "tanh"}), ("Erf", [], {}), ("Elu", [], {}),
    ("HardSigmoid", [], {}), ("HardSwish", [], {}), ("LeakyRelu", [], {"alpha": 0.2}),
    ("Clip", [np.float32(-0.5), np.float32(0.5)], {}), ("Softplus", [], {}), ("Mish", [], {}),
    ("Softmax", [], {"axis": 1}), ("LogSoftmax", [], {}),
    ("ReduceMean", [np.array([-1])], {}), ("ReduceSum", [np.array([0, 2])], {"keepdims": 0}),
    ("ReduceMax", [np.array([1])], {}), ("ReduceL2", [], {}),
    ("ReduceProd", [np.array([1, 2])], {}),
    ("ReduceLogSumExp", [np.array([2])], {}), ("ReduceMin", [], {"keepdims": 0}),
    ("Slice", [np.array([-1]), np.array([-100]), np.array([1]), np.array([-2])], {}),
    ("Slice", [np.array([1]), np.array([100]), np.array([2]), np.array([3])], {}),
    ("Gather", [np.array([-1, 0])], {"axis": 1}), ("Gather", [np.array(3)], {"axis": 2}),
    ("GatherND", [np.array([[0, 1], [1, -1]])], {}),
    ("GatherND", [np.array([[1], [2]])], {"batch_dims": 1}),
    ("GatherElements", [np.zeros([2, 6, 3], INT) - 1], {"axis": 2}),
    ("Transpose", [], {"perm": [2, 0, 1]}), ("Transpose", [], {}), ("Flatten", [], {"axis": -1}),
    ("Reshape", [np.array([0, -1, 4])], {}), ("Tile", [np.array([1, 2, 1])], {}),
    ("Expand", [np.array([3, 1, 1, 8])], {}), ("Unsqueeze", [np.array([-1, 0])], {}),
    ("Pad", [np.array([0, 1, 0, 0, 0, 2]), np.float32(1.5)], {}),
    ("Pad", [np.array([0, 1, 2, 0, 1, 0])], {"mode": "reflect"}),
    ("Pad", [np.array([0, 1, 2, 0, 1, 0])], {"mode": "edge"}),
    ("Trilu", [np.array(1)], {"upper": 0}), ("CumSum", [np.array(1)], {"reverse": 1}),
    ("CumSum", [np.array(-1)], {"exclusive": 1}), ("ArgMax", [], {"axis": -1, "keepdims": 0}),
    ("MatMul", [[8, 5]], {}), ("Einsum", [[8, 5]], {"equation": "bsh, hd -> bds"}),
    ("LayerNormalization", [[8], [8]], {"axis": -1}), ("LayerNormalization", [[6, 8]], {"axis": 1}),
    ("RMSNormalization", [[8]], {"epsilon": 1e-3}), ("InstanceNormalization", [[6], [6]], {}),
    ("GroupNormalization", [[6], [6]], {"num_groups": 3}),
    ("Conv", [[4, 6, 3], [4]], {"pads": [1, 0], "strides": [2]}),
    ("Conv", [[6, 3, 3]], {"auto_pad": "SAME_UPPER", "group": 2}),
    ("Conv", [[6, 6, 2]], {"auto_pad": "SAME_LOWER", "strides": [3]}),
    ("ConvTranspose", [[6, 4, 3]], {"strides": [2], "pads": [1, 1]}),
    ("MaxPool", [], {"kernel_shape": [3], "pads": [1, 1]}), ("GlobalAveragePool", [], {}),
    ("AveragePool", [], {"kernel_shape": [2], "strides": [2]}),
    ("ScatterND", [np.array([[1, 0], [0, 3]]), [2, 8]], {"reduction": "add"}),
    ("ScatterElements", [np.zeros([2, 1, 8], INT), [2, 1, 8]], {"axis": 1}),
    ("IsInf", [], {}), ("OneHot", [np.array(8), np.array([0.0, 2.0], np.float32)], {"axis": 1}),
]  # fmt: skip


def case(operator: str, others: list[Any], attributes: dict[str, Any]) -> Builder:
    """A node on `x`: sizes stand for random weights, arrays for themselves."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, X)
    names = ["x"]
    if operator == "OneHot":
        names = [b.op("Cast", [b.op("Abs", ["x"], "magnitude")], "whole", to=TensorProto.INT64)]
    for index, other in enumerate(others):
        if isinstance(other, list):
            names.append(b.normal(f"w{index}", *other))
        else:
            names.append(b.constant(f"w{index}", other, np.asarray(other).dtype))
    b.op(operator, names, "y", **attributes)
    kinds = {"ArgMax": TensorProto.INT64, "IsInf": TensorProto.BOOL}
    b.output("y", kinds.get(operator, TensorProto.FLOAT), [])
    b.outputs[-1].type.tensor_type.ClearField("shape")
    return b


@pytest.mark.parametrize(
    ("operator", "others", "attributes"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)]
)
def test_operators_give_what_onnx_runtime_gives(
    operator: str, others: list[Any], attributes: dict[str, Any]
) -> None:
    model = case(operator, others, attributes).model(23)
    x = np.random.default_rng(1).standard_normal(X).astype(np.float32)
    (wanted,) = run_model(model, [{"x": x}])
    given = Network(model).answers({"x": x})["y"]
    assert given.dtype == wanted["y"].dtype
    assert relative_l2(wanted["y"], given) < 1e-5


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


BIAS = torch.tensor([[0.0, -1e4, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64).reshape(2, 1, 1, 3)
HEADS = {"q_num_heads": 4, "kv_num_heads": 2}
GRADIENTS: list[tuple[str, dict[str, Any], Any]] = [
    ("Attention", HEADS, lambda: (normal(2, 3, 8), normal(2, 3, 4), normal(2, 3, 4))),
    ("Attention", HEADS | {"is_causal": 1},
     lambda: (normal(2, 3, 8), normal(2, 3, 4), normal(2, 3, 4), BIAS)),
    ("Attention", {"softcap": 2.0},
     lambda: (normal(2, 2, 3, 4), normal(2, 2, 3, 4), normal(2, 2, 3, 4))),
    ("LayerNormalization", {}, lambda: (normal(2, 3, 4), normal(4), normal(4))),
    ("RMSNormalization", {}, lambda: (normal(2, 3, 4), normal(4))),
    ("Gemm", {"transB": 1, "alpha": 0.5, "beta": 2.0},
     lambda: (normal(3, 4), normal(5, 4), normal(5))),
    ("Gelu", {"approximate": "tanh"}, lambda: (normal(3, 4),)),
    ("Gather", {}, lambda: (normal(5, 4), torch.tensor([[0, -1], [2, 0]]))),
    ("Conv", {"pads": [1, 0]}, lambda: (normal(2, 3, 6), normal(4, 3, 3), normal(4))),
    ("RotaryEmbedding", {"num_heads": 2},
     lambda: (normal(2, 3, 8), normal(2, 3, 2), normal(2, 3, 2))),
    ("RotaryEmbedding", {"interleaved": 1, "rotary_embedding_dim": 2},
     lambda: (normal(2, 2, 3, 4), normal(2, 3, 1), normal(2, 3, 1))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("operator", "attributes", "make"), GRADIENTS,
    ids=[f"{i}-{c[0]}" for i, c in enumerate(GRADIENTS)],
)  # fmt: skip
def test_gradients_are_what_differences_say(
    operator: str, attributes: dict[str, Any], make: Any
) -> None:
    torch.manual_seed(0)

    def compute(*inputs: torch.Tensor) -> torch.Tensor:
        result = OPERATORS[operator](attributes, *inputs)
        return result if isinstance(result, torch.Tensor) else result[0]

    assert torch.autograd.gradcheck(compute, make())


def test_an_operator_that_is_not_known_is_named() -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, X)
    b.op("Hardmax", ["x"], "y")
    b.output("y", TensorProto.FLOAT, X)
    with pytest.raises(UnsupportedModel) as told:
        Network(b.model())
    assert (
        told.value.line("m.onnx") == "error: m.onnx: operator Hardmax cannot be trained (y/Hardmax)"
    )


def test_what_cannot_be_computed_is_a_line() -> None:
    b = Builder()
    b.input("x", TensorProto.FLOAT, X)
    b.op("Add", ["x", b.normal("w", 5)], "y")
    b.output("y", TensorProto.FLOAT, X)
    with pytest.raises(UnsupportedModel, match="Add is not computed here"):
        Network(b.model()).answers({"x": np.zeros(X, np.float32)})

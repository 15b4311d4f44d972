"""ONNX Runtime, which fuses attentions itself when it loads a model, leaves each form as it is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from harness import choosing, make_context, run_model

from burnish.optimizer.contract import relative_l2
from burnish.passes.lower.attention.attention import LowerAttention
from burnish.passes.lower.attention.forms import FORMS

TEXT = """
<ir_version: 11, opset_import: ["" : 23]>
layer (float[b, s, 32] x, int64[b, s] padding) => (float[b, s, 32] y)
<float zero = {0}, float low = {-inf}, int64[2] axes = {1, 2}, int64[4] apart = {0, 0, 4, 8},
 int64[3] together = {0, 0, 32}, int64 first = {0}, int64 step = {1}, int64[1] one = {1}>
{
  n = LayerNormalization <axis = -1> (x, gamma, beta)
  pq = MatMul (n, wq)  bq = Add (pq, oq)  sq = Reshape (bq, apart)
  pk = MatMul (n, wk)  bk = Add (pk, ok)  sk = Reshape (bk, apart)
  pv = MatMul (n, wv)  bv = Add (pv, ov)  sv = Reshape (bv, apart)
  q = Transpose <perm = [0, 2, 1, 3]> (sq)
  k = Transpose <perm = [0, 2, 1, 3]> (sk)
  v = Transpose <perm = [0, 2, 1, 3]> (sv)
  length = Shape <start = 1, end = 2> (x)  count = Squeeze (length)
  places = Range (first, count, step)  rows = Unsqueeze (places, one)
  before = LessOrEqual (places, rows)
  exists = Cast <to = 9> (padding)  keys = Unsqueeze (exists, axes)
  both = And (before, keys)
  target = Concat <axis = 0> (length, length)
  narrow = Where (keys, zero, low)
  wide = Expand (narrow, target)
  a = Attention (q, k, v, MASK)
  t = Transpose <perm = [0, 2, 1, 3]> (a)  r = Reshape (t, together)
  po = MatMul (r, wo)  bo = Add (po, oo)
  skip = Add (bo, x)
  y = LayerNormalization <axis = -1> (skip, gamma, beta)
}
"""

SURVIVES = {
    "products": {"FusedMatMul": 1, "Softmax": 1},
    "MultiHeadAttention": {"MultiHeadAttention": 1},
    "MultiHeadAttention (causal)": {"MultiHeadAttention": 1},
    "MultiHeadAttention (key padding)": {"MultiHeadAttention": 1},
    "GroupQueryAttention": {"GroupQueryAttention": 1},
    "Attention with weights": {"Attention": 1, "MatMul": 1},
    "Attention with weights (causal)": {"Attention": 1, "MatMul": 1},
    "Attention with weights (key padding)": {"Attention": 1, "MatMul": 1},
}


def layer(mask: str) -> ir.Model:
    random = np.random.default_rng(0)
    message = onnx.parser.parse_model(TEXT.replace("MASK", mask).replace(", )", ")"))
    shapes = {f"w{name}": (32, 32) for name in "qkvo"} | {f"o{name}": (32,) for name in "qkvo"}
    for name, shape in (shapes | {"gamma": (32,), "beta": (32,)}).items():
        array = (random.standard_normal(shape) * 0.4).astype(np.float32)
        message.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return ir.from_proto(message)


def loaded(model: ir.Model, path: Path) -> Counter[str]:
    """The operators that a session with all optimizations runs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(path)
    content = ir.to_proto(model).SerializeToString()
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_all_forms_for_processors_are_here() -> None:
    forms = {name for name, form in FORMS.items() if "cpu" in form.providers}
    # The other one needs windows: test_windows_of_images.py.
    assert forms - set(SURVIVES) == {"products by windows"}


@pytest.mark.parametrize("form", SURVIVES)
def test_survives_loading(form: str, tmp_path: Path) -> None:
    mask = "before" if "causal" in form else "both" if "Group" in form else "wide"
    model = layer(mask)
    lowered = model.clone()
    context = make_context(choosing(form), sizes={"b": 2, "s": 5})
    assert LowerAttention().apply(lowered, context).rewrites == 1
    written = Counter(node.op_type for node in lowered.graph)
    operators = loaded(lowered, tmp_path / "optimized.onnx")
    kinds = {"Attention", "MultiHeadAttention", "GroupQueryAttention", "Softmax", "QkvToContext"}
    assert {name: operators[name] for name in kinds} == {name: written[name] for name in kinds}
    for name, count in SURVIVES[form].items():
        assert operators[name] == count

    random = np.random.default_rng(1)
    padding = np.ones((2, 5), np.int64)
    padding[1, :2] = 0
    feed = {"x": random.standard_normal((2, 5, 32)).astype(np.float32), "padding": padding}
    mine = run_model(model, [feed])[0]["y"]
    theirs = run_model(lowered, [feed], optimize=True)[0]["y"]
    assert relative_l2(mine, theirs) < 2e-6

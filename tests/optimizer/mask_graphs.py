"""Masks written by hand, and their proof at several lengths and patterns of padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import onnx_ir as ir

from burnish.optimizer.analysis.masks import Mask, Masks
from burnish.optimizer.analysis.masks.proof import prove
from burnish.optimizer.contract import Feeds

HEAD = """<ir_version: 10, opset_import: ["": 20]>
agraph ({inputs}) => ({kind}[{shape}] mask)
<int64 zero = {{0}}, int64 one = {{1}}, int64[1] first = {{0}}, int64[1] second = {{1}},
 int64[1] third = {{2}}, int64[1] last = {{-1}}, int64[2] outer = {{0, 1}},
 int64[2] middle = {{1, 2}}, int64[3] heading = {{0, 1, 2}},
 float none = {{0.0}}, float lowest = {{-3.4028234663852886e38}}>
{{
  size = Shape(ids)
  batch = Gather(size, zero)
  length = Gather(size, one)
  places = Range(zero, length, one)
  query = Unsqueeze(places, second)
  key = Unsqueeze(places, first)
{body}
}}"""

IDS = "int64[batch, sequence] ids"
PADDED = f"{IDS}, int64[batch, sequence] attention_mask"
PAIR = "batch, 1, sequence, sequence"


def build(body: str, inputs: str = PADDED, kind: str = "float", shape: str = PAIR) -> ir.Model:
    """A model of one mask; what its text may name is in `HEAD`."""
    text = HEAD.format(inputs=inputs, kind=kind, shape=shape, body=body)
    return ir.from_proto(onnx.parser.parse_model(text))


def analyse(model: ir.Model) -> Mask:
    """The normal form of the model's output."""
    return Masks().of(model.graph.outputs[0])


def proven(model: ir.Model) -> Mask:
    """The normal form, compared with the mask itself."""
    mask = analyse(model)
    for feeds in trials(model):
        assert prove(mask, model, feeds, run) == "", feeds
    return mask


def run(model: ir.Model, feeds: Feeds) -> Feeds:
    """The outputs by name, from the reference implementation."""
    proto = ir.to_proto(model)
    session = onnx.reference.ReferenceEvaluator(proto)
    names = [value.name for value in proto.graph.output]
    with np.errstate(over="ignore"):
        return dict(zip(names, session.run(None, dict(feeds)), strict=True))


def trials(model: ir.Model) -> Iterator[dict[str, np.ndarray]]:
    """Feeds of several lengths: nothing padded, right, left, with holes, and a row of padding."""
    rng = np.random.default_rng(0)
    for batch, length, past in ((1, 1, 0), (2, 5, 3), (3, 8, 1)):
        sizes = {"batch": batch, "sequence": length, "past": past, "total": past + length}
        for pattern in ("full", "right", "left", "holes", "empty"):
            feeds = {}
            for value in model.graph.inputs:
                shape = [sizes.get(str(size), size) for size in value.shape or ()]
                feeds[value.name or ""] = _filled(value, shape, pattern, rng)
            yield feeds


def _filled(value: ir.Value, shape: list, pattern: str, rng: np.random.Generator) -> np.ndarray:
    name, dtype = value.name or "", value.dtype
    if "mask" not in name:
        if dtype is ir.DataType.FLOAT:
            return rng.standard_normal(shape).astype(np.float32)
        return rng.integers(0, 4, shape)
    found = np.ones(shape, np.int64)
    third = shape[-1] // 3
    if pattern == "right":
        found[0, ..., shape[-1] - third :] = 0
    if pattern == "left":
        found[0, ..., :third] = 0
    if pattern == "holes":
        found = rng.integers(0, 2, shape)
    if pattern == "empty":
        found[-1] = 0
    return found.astype(dtype.numpy() if dtype is not None else np.int64)

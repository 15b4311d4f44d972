"""Initializers that passes share."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from burnish.optimizer.constants import Constants
from burnish.optimizer.pruning import prune


def test_equal_contents_are_one_initializer() -> None:
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 18})
    constants = Constants()
    first = constants.of(graph, "sizes", np.array([1, 2]))
    assert constants.of(graph, "others", np.array([1, 2])) is first
    assert constants.of(graph, "sizes", np.array([[1, 2]])) is not first
    assert constants.of(graph, "sizes", np.array([1, 2], np.int32)) is not first
    assert constants.number(graph, "half", 0.5, ir.DataType.BFLOAT16).dtype is ir.DataType.BFLOAT16
    assert len(graph.initializers) == len(list(constants)) == 4


def test_one_that_was_pruned_is_made_anew() -> None:
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 18})
    constants = Constants()
    first = constants.of(graph, "sizes", np.array([1, 2]))
    prune([first])
    assert not graph.initializers
    second = constants.of(graph, "sizes", np.array([1, 2]))
    assert list(graph.initializers.values()) == [second]

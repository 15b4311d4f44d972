"""What lies between products whose channels are cut: columns, heads, parts and shapes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.channels.axis import Axis
from burnish.optimizer.analysis.channels.sites import Site
from burnish.optimizer.analysis.channels.trace import Trace
from burnish.optimizer.analysis.channels.written import parts_of, written
from burnish.optimizer.analysis.matching import rank
from burnish.optimizer.analysis.products import Product
from burnish.optimizer.contract import Array
from burnish.optimizer.model import add_initializer


def cut_nodes(site: Site, units: Array) -> None:
    """Keep only some units in all that writes, moves and computes channels; names change.

    Args:
        site: the products that read it have been written anew.
        units: ascending.
    """
    trace = site.trace
    columns = _columns(trace, units)
    for source, span in trace.cut.items():
        _narrow_parts(trace, source, span, columns)
    for products in _sharing(trace, columns):
        write_columns(products, columns[products[0].output])
    for (node, index), axis in trace.constants.items():
        _narrow_constant(node, index, axis, units)
    for node in trace.nodes:
        _narrow_node(trace, node, units)
    for attention, place in trace.masks.items():
        _narrow_mask(attention, place, units)
    _rename(trace, columns, units)


def _columns(trace: Trace, units: Array) -> dict[ir.Value, Array]:
    """The columns that stay of each product that writes channels, by what it gives."""
    gone: dict[ir.Value, list[Array]] = defaultdict(list)
    for item in trace.columns:
        every = np.arange(item.axis.length)
        lost = np.setdiff1d(every, item.axis.elements(units))
        gone[item.product.output].append(lost + item.start)
    return {
        value: np.setdiff1d(np.arange(trace.by_output[value].n), np.concatenate(lost))
        for value, lost in gone.items()
    }


def _sharing(trace: Trace, columns: dict[ir.Value, Array]) -> list[list[Product]]:
    """The products that write channels, those of one weight together."""
    weights = dict.fromkeys(trace.by_output[value].weight for value in columns)
    return [trace.by_weight[weight] for weight in weights]


def write_columns(products: Sequence[Product], left: Array) -> None:
    """The columns that stay, and their bias, in the nodes of products that share them."""
    first = products[0]
    graph, name = first.graph, first.weight.name
    assert first.weight.const_value is not None
    array = first.weight.const_value.numpy()
    array = (array.T if first.transposed else array)[:, left]
    stored = _stored(graph, f"{name}_columns", array)
    bias = None
    if first.bias is not None:
        assert first.bias.const_value is not None
        array = first.bias.const_value.numpy().reshape(-1)[left]
        bias = _stored(graph, f"{first.bias.name}_columns", array)
    for product in products:
        node = product.nodes[0]
        _put(node, 1, stored)
        if node.op_type == "Gemm":
            node.attributes["transB"] = ir.AttrInt64("transB", 0)
        if bias is not None:
            adder = product.nodes[-1]
            index = next(i for i, item in enumerate(adder.inputs) if item is product.bias)
            _put(adder, index, bias)


def _stored(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    return add_initializer(graph, name, ir.Tensor(np.ascontiguousarray(array)))


def _put(node: ir.Node, index: int, stored: ir.Value) -> None:
    """A constant in the place of an operand; what nobody reads any more goes."""
    old = node.inputs[index]
    node.replace_input_with(index, stored)
    home = old.graph if old is not None else None
    if old is not None and not old.uses() and old.producer() is None and home is not None:
        home.initializers.pop(old.name or "", None)


def _narrow_parts(
    trace: Trace, source: ir.Value, span: int, columns: dict[ir.Value, Array]
) -> None:
    """Nodes that take parts of columns, or of heads made of them, of which some are gone."""
    flat, maker = source, source.producer()
    if source not in trace.by_output and maker is not None and maker.inputs[0] is not None:
        flat = maker.inputs[0]
    place = rank(flat) - 1
    left = columns[flat][::span] // span
    for use in list(source.uses()):
        bounds = parts_of(use.node, place)
        assert bounds is not None
        moved = [tuple(np.searchsorted(left, bound).tolist() for bound in part) for part in bounds]
        _move_parts(use.node, moved)
    if flat is not source and maker is not None:
        _narrow_shape(maker, place, len(left))
        source.shape = _shape(source, place, len(left))
        source.name = f"{source.name}_pruned"


def _move_parts(node: ir.Node, parts: list[tuple[int, ...]]) -> None:
    """Other bounds of the parts that a node takes."""
    graph, name = node.graph, node.outputs[0].name
    assert isinstance(graph, ir.Graph)

    def put(index: int, numbers: list[int], axes: int = 1) -> None:
        shaped = np.array(numbers).reshape([-1] * axes)
        node.replace_input_with(index, add_initializer(graph, f"{name}_parts", ir.tensor(shaped)))

    if node.op_type == "Split":
        node.attributes.pop("num_outputs", None)
        node.resize_inputs(2)
        put(1, [end - start for start, end in parts])
    elif node.op_type == "Gather":
        put(1, [parts[0][0]], rank(node.inputs[1]))
    else:
        for index, number in enumerate(parts[0], start=1):
            put(index, [number])


def _narrow_constant(node: ir.Node, index: int, axis: Axis, units: Array) -> None:
    value, graph = node.inputs[index], node.graph
    assert value is not None and value.const_value is not None and isinstance(graph, ir.Graph)
    array = value.const_value.numpy().take(axis.elements(units), axis.place)
    _put(node, index, _stored(graph, f"{value.name}_cut", array))


def _narrow_node(trace: Trace, node: ir.Node, units: Array) -> None:
    """Numbers of heads, and shapes, that are written in a node."""
    result = trace.axes.get(node.outputs[0])
    if node.op_type == "Reshape":
        assert result is not None
        length = len(result.units(units)) * result.size
        _narrow_shape(node, result.place, length)
    elif node.op_type == "RotaryEmbedding" and result is not None:
        heads = node.attributes.get_int("num_heads", 0)
        if heads:
            _number(node, "num_heads", heads * len(result.units(units)) // result.count)
    elif node.op_type == "Attention" and rank(node.inputs[0]) == 3:
        for name, value in (("q_num_heads", node.inputs[0]), ("kv_num_heads", node.inputs[1])):
            axis = trace.axes.get(value) if value is not None else None
            if axis is not None:
                _number(node, name, len(axis.units(units)))


def _number(node: ir.Node, name: str, number: int) -> None:
    node.attributes[name] = ir.AttrInt64(name, number)


def _narrow_shape(node: ir.Node, place: int, length: int) -> None:
    """Another length along one axis of what a `Reshape` gives."""
    told, graph = written(node.inputs[1]), node.graph
    assert told is not None and isinstance(graph, ir.Graph)
    if told[place] in (-1, 0):  # that of its operand, or what is left
        return
    name = f"{node.outputs[0].name}_sizes"
    if None not in told:
        numbers = np.array([length if at == place else size for at, size in enumerate(told)])
        node.replace_input_with(1, add_initializer(graph, name, ir.tensor(numbers)))
        return
    joined = node.inputs[1].producer() if node.inputs[1] is not None else None
    assert joined is not None
    parts = list(joined.inputs)
    parts[place] = add_initializer(graph, name, ir.tensor(np.array([length])))
    copy = ir.node("Concat", parts, {"axis": 0})
    copy.outputs[0].type, copy.outputs[0].shape = joined.outputs[0].type, joined.outputs[0].shape
    graph.insert_before(node, copy)
    node.replace_input_with(1, copy.outputs[0])


def _narrow_mask(attention: ir.Node, place: int, units: Array) -> None:
    """The parts of a mask that heads have which stay."""
    mask, graph = attention.inputs[3], attention.graph
    assert mask is not None and isinstance(graph, ir.Graph)
    indices = add_initializer(graph, f"{mask.name}_heads", ir.tensor(units))
    gather = ir.node("Gather", [mask, indices], {"axis": place})
    gather.outputs[0].type, gather.outputs[0].shape = mask.type, _shape(mask, place, len(units))
    graph.insert_before(attention, gather)
    attention.replace_input_with(3, gather.outputs[0])


def _shape(value: ir.Value, place: int, length: int) -> ir.Shape | None:
    if value.shape is None:
        return None
    return ir.Shape([length if at == place else size for at, size in enumerate(value.shape)])


def _rename(trace: Trace, columns: dict[ir.Value, Array], units: Array) -> None:
    """What holds other channels than before has another name, and other sizes."""
    lengths = {
        value: (axis.place, len(axis.units(units)) * axis.size)
        for value, axis in trace.axes.items()
    }
    for value, left in columns.items():
        product = trace.by_output[value]
        for node in product.nodes:
            output = node.outputs[0]
            lengths[output] = (rank(output) - 1, len(left))
    for value, (place, length) in lengths.items():
        value.shape = _shape(value, place, length)
        value.name = f"{value.name}_pruned"

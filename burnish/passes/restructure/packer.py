"""The rewrite behind the pass `pack`: values in both layouts."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.tokens.layout import Axis, Dims
from burnish.optimizer.analysis.tokens.operators import VIEWS
from burnish.optimizer.analysis.tokens.packing import Packing
from burnish.optimizer.analysis.tokens.region import Kind, Kinds, Region, leading
from burnish.optimizer.model import add_initializer
from burnish.optimizer.naming import Names
from burnish.optimizer.undefined import Padding
from burnish.passes.restructure.token_indices import TokenIndices


class Packer:
    """Rewrites a region of token-wise nodes to run on packed tokens.

    A packed value `[batch, sequence, ...]` is `[1, tokens, ...]`, one `[tokens, ...]` stays so.
    The first row is that of the first position, real or not, and stands in for padded rows: there
    is always one row, and padded rows of unpacked values are as finite as it is.
    """

    def __init__(self, model: ir.Model, plan: Packing) -> None:
        self._graph = model.graph
        self._plan = plan
        self._layout = plan.layout
        self._made: dict[tuple[ir.Value, Kind], ir.Value] = {}
        self._whole: dict[ir.Value, ir.Value] = {}
        self._declared: dict[ir.Value, ir.Shape] = {}
        self._names = Names(model.graph)
        self.indices = TokenIndices(model.graph, plan.mask, plan.spill.selected, self._names.free)

    def rewrite(self) -> None:
        """Pack the region's nodes in place, and leave the outputs' padded rows at zero."""
        region = self._plan.region
        outputs = {value.name: value for value in self._graph.outputs}
        for node, kinds in region.items():
            self._pack_operands(node, kinds, region)
            self._pack_results(node, region)
        for row in self._plan.padding:
            value = outputs[row.output]
            outputs[row.output] = self._cleared(self._whole.get(value, value), row)
        self._put_out(outputs)
        self.indices.put()

    def _put_out(self, outputs: dict[str | None, ir.Value]) -> None:
        """Let the cleared values be the outputs, and name what else holds something new anew."""
        declared = list(self._graph.outputs)
        names = [value.name for value in declared]
        for value in self._plan.spill.axes:
            packed = value.producer() in self._plan.region
            value.name = self._names.free(f"{value.name}_{'on_tokens' if packed else 'repadded'}")
        for index, (value, name) in enumerate(zip(declared, names, strict=True)):
            result = outputs[name]
            if result is value:
                continue
            result.type, result.shape = value.type, self._declared.get(value, value.shape)
            result.doc_string = value.doc_string
            result.metadata_props.update(value.metadata_props)
            result.name = name
            self._graph.outputs[index] = result

    def _pack_operands(self, node: ir.Node, kinds: Kinds, region: Region) -> None:
        for index, (value, kind) in enumerate(zip(node.inputs, kinds, strict=True)):
            if value is None or kind is None or kind is Kind.SHARED:
                continue
            if value.producer() not in region:
                node.replace_input_with(index, self._packed(value, kind))
        if node.op_type in VIEWS or node.op_type == "Expand":
            dims = self._layout.dims(node.outputs[0])
            lead, grows = leading(dims), node.op_type == "Expand"
            assert dims is not None
            sizes = ([1] * lead if grows else [1, -1][-lead:]) + [
                dim for dim in dims[lead:] if isinstance(dim, int)
            ]
            node.op_type = node.op_type if grows else "Reshape"
            node.attributes.clear()
            node.resize_inputs(2)
            node.replace_input_with(1, self.indices.constant(sizes))

    def _pack_results(self, node: ir.Node, region: Region) -> None:
        for value in node.outputs:
            outside = [use for use in value.uses() if use.node not in region]
            dims = self._layout.dims(value) or ()
            lead = leading(dims)
            before = value.shape
            value.type = self._type(value)
            value.shape = _shape((1, Axis.TOKENS)[-lead:] + dims[lead:])
            if not outside and not value.is_graph_output():
                continue
            places = self.indices.get("places" if lead == 2 else "flat_places")
            operator = "GatherND" if lead == 2 else "Gather"
            back = ir.node(operator, [value, places])
            whole = back.outputs[0]
            whole.name = self._names.free(f"{value.name}_padded")
            whole.type, whole.shape = value.type, before or _shape(dims)
            self._graph.insert_after(node, back)
            self._whole[value] = whole
            if value.is_graph_output() and before is not None:
                self._declared[value] = before
            for use in outside:
                use.node.replace_input_with(use.idx, whole)

    def _packed(self, value: ir.Value, kind: Kind) -> ir.Value:
        """A value of the padded layout, or one shared by rows or columns of it, on tokens."""
        if (value, kind) in self._made:
            return self._made[value, kind]
        dims = self._layout.dims(value) or ()
        operator, axis, index = "Gather", 0, "row_positions"
        if kind is Kind.ROW:
            operator, index = "GatherND", "row_starts"
        elif kind is Kind.POSITION and dims[0] == 1:
            axis, index = 1, "positions"
        elif kind is Kind.TOKEN:
            both = leading(dims) == 2
            operator, index = ("GatherND", "tokens") if both else ("Gather", "flat_tokens")
        attributes = {"axis": axis} if operator == "Gather" else {}
        node = ir.node(operator, [value, self.indices.get(index)], attributes)
        packed = node.outputs[0]
        packed.name, packed.type = self._names.free(f"{value.name}_packed"), self._type(value)
        packed.shape = _shape(self._packed_dims(dims, kind))
        producer = value.producer()
        if producer is None:
            self.indices.add(node)
        else:
            self._graph.insert_after(producer, node)
        self._made[value, kind] = packed
        return packed

    def _packed_dims(self, dims: Dims, kind: Kind) -> Dims:
        if kind is Kind.POSITION:
            return (1, Axis.TOKENS, *dims[1 + (dims[0] == 1) :])
        lead = 2 if kind is Kind.ROW else leading(dims)
        return (1, Axis.TOKENS)[-lead:] + dims[lead:]

    def _type(self, value: ir.Value) -> ir.TypeProtocol | None:
        kind = self._layout.dtype(value)
        return value.type or (ir.TensorType(kind) if kind is not None else None)

    def _cleared(self, value: ir.Value, row: Padding) -> ir.Value:
        """The value with zeros in its padded rows."""
        dims = self._layout.dims(value) or self._layout.dims(self._packed_from(value)) or ()
        real = self.indices.get("real" if row.batch != row.axis else "flat_real")
        if row.batch > row.axis:
            real = self.indices.emit("Transpose", [real], {"perm": (1, 0)})
        others = [axis for axis in range(len(dims)) if axis not in (row.batch, row.axis)]
        if others:
            real = self.indices.emit("Unsqueeze", [real, self.indices.constant(others)])
        kind = self._layout.dtype(value) or self._layout.dtype(self._packed_from(value))
        assert kind is not None
        if kind is ir.DataType.BOOL:  # for which ONNX Runtime has no Where
            node = ir.node("And", [real, value])
        else:
            zero = add_initializer(self._graph, "no_token", ir.tensor(np.zeros((), kind.numpy())))
            node = ir.node("Where", [real, value, zero])
        producer = value.producer()
        assert producer is not None
        self._graph.insert_after(producer, node)
        return node.outputs[0]

    def _packed_from(self, whole: ir.Value) -> ir.Value:
        producer = whole.producer()
        return producer.inputs[0] if producer is not None and producer.inputs[0] else whole


def _shape(dims: Dims) -> ir.Shape:
    """The axes as a value's shape, those of no fixed size without a name."""
    return ir.Shape([dim if isinstance(dim, int) else None for dim in dims])

"""Passes that do something wrong and promise that they do not.

Each is a plain pass: it changes a model (the encoder of `samples.encoder`, where it names none) in
one place and reports one rewrite. The compiler must reject every one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import onnx_ir as ir
from harness import last_form, make_context
from samples import Builder, encoder
from windowed import stage

from burnish.optimizer.analysis.products import Product, find_products
from burnish.optimizer.contract import (
    EXACT,
    LOSSY,
    ROUNDING,
    Context,
    Outcome,
    Pass,
    Phase,
    Promise,
)
from burnish.optimizer.model import add_initializer
from burnish.passes.compress.int8.rewrite import Rewriter
from burnish.passes.compress.low_rank import low_rank
from burnish.passes.compress.low_rank.factors import Factors
from burnish.passes.lower.sparse.sparse_storage import SparseStorage
from burnish.passes.restructure.moves.compose_moves import ComposeMoves
from burnish.passes.restructure.sparse import cutting, sparse_weights
from burnish.passes.restructure.sparse.channels import hidden_before
from burnish.passes.restructure.sparse.cutting import Cut
from burnish.passes.restructure.sparse.forms import Apart
from burnish.passes.restructure.sparse.structure import Block

WRONG: list[type[Pass]] = []


def planted(cls: type[Pass]) -> type[Pass]:
    """Register a wrong pass; its name is that of its class, in kebab case."""
    cls = dataclass(frozen=True)(cls)
    words = "".join(f"-{c.lower()}" if c.isupper() else c for c in cls.__name__)
    cls.name = f"planted{words}"
    WRONG.append(cls)
    return cls


@dataclass(frozen=True)
class Planted(Pass):
    """A pass that reports one rewrite; what it does is `spoil`.

    Attributes:
        sample: the model that it spoils.
    """

    sample: ClassVar[Callable[[], onnx.ModelProto]] = encoder
    name: ClassVar[str] = "planted"
    phase: ClassVar[Phase] = Phase.RECOVER
    promise: ClassVar[Promise] = EXACT

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        self.spoil(model)
        return Outcome(1)

    def spoil(self, model: ir.Model) -> None:
        raise NotImplementedError


def maker(model: ir.Model, name: str) -> ir.Node:
    """The node that makes the value called `name`."""
    return next(node for node in model.graph if node.outputs[0].name == name)


def value(model: ir.Model, name: str) -> ir.Value:
    """The input, weight or computed value called `name`."""
    for item in (*model.graph.inputs, *model.graph.initializers.values()):
        if item.name == name:
            return item
    return maker(model, name).outputs[0]


def weight(model: ir.Model, name: str) -> np.ndarray:
    """A copy of the weight called `name`."""
    return model.graph.initializers[name].const_value.numpy().copy()


def store(model: ir.Model, name: str, array: np.ndarray) -> None:
    """Put other numbers under the same name."""
    item = model.graph.initializers[name]
    item.const_value = ir.Tensor(np.asarray(array, order="C"), name=name)
    item.shape = ir.Shape(np.shape(array))


def bypass(model: ir.Model, name: str, instead: str) -> None:
    """Let whatever reads `name` read `instead`."""
    new = value(model, instead)
    for node, index in list(maker(model, name).outputs[0].uses()):
        node.replace_input_with(index, new)


def after(model: ir.Model, name: str, operator: str, *more: ir.Value, **attributes: object) -> None:
    """Put `operator` behind the value called `name`, for all that read it."""
    old = value(model, name)
    uses = list(old.uses())
    node = ir.node(operator, [old, *more], attributes)
    node.outputs[0].name = f"{name}.spoilt"
    model.graph.insert_after(maker(model, name), node)
    for user, index in uses:
        user.replace_input_with(index, node.outputs[0])


def constant(model: ir.Model, name: str, array: object) -> ir.Value:
    return add_initializer(model.graph, name, ir.tensor(np.asarray(array)))


# Attention


@planted
class SoftmaxOverQueries(Planted):
    def spoil(self, model):
        maker(model, "layer0.probabilities").attributes["axis"] = ir.AttrInt64("axis", -2)


@planted
class MaskDropped(Planted):
    promise = ROUNDING

    def spoil(self, model):
        bypass(model, "layer1.masked", "layer1.scores")


@planted
class MaskInverted(Planted):
    def spoil(self, model):
        maker(model, "mask").replace_input_with(0, value(model, "mask_number"))


@planted
class MaskOfMinusOne(Planted):
    promise = ROUNDING

    def spoil(self, model):
        store(model, "lowest", np.float32(-1.0))


@planted
class MaskOfTheFirstRow(Planted):
    """The first row's mask for the whole batch."""

    def spoil(self, model):
        zero = constant(model, "row", np.array([0]))
        after(model, "mask", "Gather", zero, axis=0)


@planted
class ScaleDropped(Planted):
    promise = ROUNDING

    def spoil(self, model):
        bypass(model, "layer0.scores", "layer0.products")


@planted
class ScaleAppliedTwice(Planted):
    promise = ROUNDING

    def spoil(self, model):
        after(model, "layer0.scores", "Div", value(model, "scale"))


@planted
class ScaleOfTheWidth(Planted):
    """The square root of the whole width instead of a head's."""

    promise = ROUNDING

    def spoil(self, model):
        store(model, "scale", np.float32(4.0))


@planted
class ValuesForKeys(Planted):
    def spoil(self, model):
        maker(model, "layer0.k.product").replace_input_with(1, value(model, "layer0.v.weight"))
        maker(model, "layer0.k").replace_input_with(1, value(model, "layer0.v.bias"))


@planted
class KeysForValues(Planted):
    def spoil(self, model):
        maker(model, "layer0.v4d").replace_input_with(0, value(model, "layer0.k"))


@planted
class ProbabilitiesAndValuesSwapped(Planted):
    def spoil(self, model):
        node = maker(model, "layer0.mixed")
        first, second = node.inputs
        node.replace_input_with(0, second)
        node.replace_input_with(1, first)


@planted
class HeadsSplitWrong(Planted):
    """Width by heads where heads by width belongs."""

    def spoil(self, model):
        store(model, "split", np.array([0, 0, 8, 2]))


@planted
class WrongPermutation(Planted):
    def spoil(self, model):
        maker(model, "layer0.mixed4d").attributes["perm"] = ir.AttrInt64s("perm", [0, 3, 2, 1])


@planted
class BatchBakedIn(Planted):
    """A Reshape that holds for a batch of two only."""

    def spoil(self, model):
        store(model, "join", np.array([2, -1, 16]))


@planted
class ScoresIgnored(Planted):
    """Averages where attention belongs: right for one token only."""

    def spoil(self, model):
        bypass(model, "layer0.masked", "mask")


# Products and weights


@planted
class WeightTransposed(Planted):
    def spoil(self, model):
        store(model, "layer0.q.weight", weight(model, "layer0.q.weight").T)


@planted
class BiasOfAnotherLayer(Planted):
    def spoil(self, model):
        maker(model, "layer0.v").replace_input_with(1, value(model, "layer1.v.bias"))


@planted
class BiasDropped(Planted):
    promise = ROUNDING

    def spoil(self, model):
        bypass(model, "layer0.down", "layer0.down.product")


@planted
class OneWeightChanged(Planted):
    """By one part in ten thousand, in a place of its own."""

    def spoil(self, model):
        array = weight(model, "layer1.up.weight")
        array[3, 5] *= 1.0001
        store(model, "layer1.up.weight", array)


@planted
class WeightsInHalfPrecision(Planted):
    def spoil(self, model):
        array = weight(model, "layer1.out.weight")
        store(model, "layer1.out.weight", array.astype(np.float16).astype(np.float32))


@planted
class WeightsInHalfPrecisionAsRounding(WeightsInHalfPrecision):
    promise = ROUNDING


# Constants under new names, so that their numbers have to tell


@planted
class OneWeightChangedUnderANewName(Planted):
    def spoil(self, model):
        array = weight(model, "layer1.up.weight")
        array[3, 5] *= 1.0001
        product = maker(model, "layer1.up.product")
        product.replace_input_with(1, constant(model, "new", array))


@planted
class WeightsInHalfPrecisionUnderANewName(Planted):
    promise = ROUNDING

    def spoil(self, model):
        array = weight(model, "layer1.out.weight").astype(np.float16).astype(np.float32)
        product = maker(model, "layer1.out.product")
        product.replace_input_with(1, constant(model, "new", array))


@planted
class WeightTransposedUnderANewName(Planted):
    def spoil(self, model):
        array = np.ascontiguousarray(weight(model, "layer0.q.weight").T)
        product = maker(model, "layer0.q.product")
        product.replace_input_with(1, constant(model, "new", array))


@planted
class TableShiftedUnderANewName(Planted):
    def spoil(self, model):
        array = np.roll(weight(model, "words"), 1, axis=0)
        maker(model, "word_rows").replace_input_with(0, constant(model, "new", array))


@planted
class MaskOfMinusOneUnderANewName(Planted):
    promise = ROUNDING

    def spoil(self, model):
        maker(model, "mask").replace_input_with(1, constant(model, "new", np.float32(-1.0)))


@planted
class WeightIsNaN(Planted):
    promise = LOSSY

    def spoil(self, model):
        array = weight(model, "layer0.up.weight")
        array[0, 0] = np.nan
        store(model, "layer0.up.weight", array)


@planted
class WeightsSwapped(Planted):
    """Two layers take each other's weights under their own names."""

    def spoil(self, model):
        first, second = weight(model, "layer0.up.weight"), weight(model, "layer1.up.weight")
        store(model, "layer0.up.weight", second)
        store(model, "layer1.up.weight", first)


@planted
class GemmWeightRelaid(Planted):
    """Transposed in memory under its old shape."""

    def spoil(self, model):
        store(model, "classes.weight", weight(model, "classes.weight").T.reshape(3, 16))


@planted
class GemmBetaForAlpha(Planted):
    def spoil(self, model):
        maker(model, "logits").attributes["beta"] = ir.AttrFloat32("beta", 2.0)


@planted
class WritesIntoWeights(Planted):
    """Not into a copy: there would be nothing to go back to."""

    def spoil(self, model):
        model.graph.initializers["layer0.q.weight"].const_value.numpy()[0, 0] += 1


# Normalization, activation, residuals


@planted
class LargeEpsilon(Planted):
    promise = ROUNDING

    def spoil(self, model):
        maker(model, "embedded").attributes["epsilon"] = ir.AttrFloat32("epsilon", 1e-2)


@planted
class GammaAndBetaSwapped(Planted):
    def spoil(self, model):
        node = maker(model, "layer0.norm1")
        gamma, beta = node.inputs[1], node.inputs[2]
        node.replace_input_with(1, beta)
        node.replace_input_with(2, gamma)


@planted
class ResidualDropped(Planted):
    def spoil(self, model):
        bypass(model, "layer0.attended", "layer0.out")


@planted
class ResidualDoubled(Planted):
    def spoil(self, model):
        after(model, "layer0.attended", "Add", value(model, "embedded"))


@planted
class ResidualOfAnotherPlace(Planted):
    """The layer's input where its normalized attention belongs."""

    def spoil(self, model):
        maker(model, "layer0.fed").replace_input_with(1, value(model, "embedded"))


@planted
class ReluForGelu(Planted):
    promise = ROUNDING

    def spoil(self, model):
        after(model, "layer0.up", "Relu")
        bypass(model, "layer0.gelu", "layer0.up.spoilt")


class _TanhGelu(Planted):
    def spoil(self, model):
        """x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2, which is another function."""
        x, anchor = value(model, "layer0.up"), maker(model, "layer0.gelu.erf")

        def op(kind, *inputs):
            node = ir.node(kind, list(inputs))
            model.graph.insert_before(anchor, node)
            return node.outputs[0]

        cube = op("Mul", op("Mul", op("Mul", x, x), x), constant(model, "c", np.float32(0.044715)))
        inner = op("Mul", op("Add", x, cube), constant(model, "r", np.float32(np.sqrt(2 / np.pi))))
        maker(model, "layer0.gelu.raised").replace_input_with(0, op("Tanh", inner))


@planted
class TanhGeluAsExact(_TanhGelu):
    pass


@planted
class TanhGeluAsRounding(_TanhGelu):
    promise = ROUNDING


@planted
class SubtractionSwapped(Planted):
    def spoil(self, model):
        node = maker(model, "hidden_keys")
        first, second = node.inputs
        node.replace_input_with(0, second)
        node.replace_input_with(1, first)


@planted
class DivisionSwapped(Planted):
    def spoil(self, model):
        node = maker(model, "layer1.gelu.scaled")
        first, second = node.inputs
        node.replace_input_with(0, second)
        node.replace_input_with(1, first)


# Embeddings


@planted
class TableRowsShifted(Planted):
    def spoil(self, model):
        store(model, "words", np.roll(weight(model, "words"), 1, axis=0))


@planted
class PositionsOffByOne(Planted):
    def spoil(self, model):
        store(model, "position_ids", np.minimum(weight(model, "position_ids") + 1, 31))


@planted
class SliceOffByOne(Planted):
    """Positions from the second on, and the last one twice."""

    def spoil(self, model):
        after(model, "positions", "Sub", constant(model, "minus", np.array(-1)))


@planted
class TokenTypesIgnored(Planted):
    def spoil(self, model):
        bypass(model, "typed_rows", "word_rows")


@planted
class PoolsTheLastToken(Planted):
    def spoil(self, model):
        store(model, "first", np.array(-1))


# The contract with the caller


@planted
class OutputLost(Planted):
    def spoil(self, model):
        model.graph.outputs.pop()


@planted
class OutputDuplicated(Planted):
    def spoil(self, model):
        model.graph.outputs.append(model.graph.outputs[0])


@planted
class OutputsReordered(Planted):
    def spoil(self, model):
        model.graph.outputs.reverse()


@planted
class OutputRenamed(Planted):
    def spoil(self, model):
        model.graph.outputs[0].name = "hidden_states"


@planted
class OutputTakesAnothersName(Planted):
    """The output has the right name and the value of the layer before."""

    def spoil(self, model):
        node = maker(model, "last_hidden_state")
        node.replace_input_with(0, value(model, "layer0.norm2"))


@planted
class InputRenamed(Planted):
    def spoil(self, model):
        model.graph.inputs[0].name = "ids"


@planted
class InputsReordered(Planted):
    def spoil(self, model):
        model.graph.inputs.reverse()


@planted
class InputLost(Planted):
    def spoil(self, model):
        bypass(model, "typed_rows", "word_rows")
        model.graph.remove(maker(model, "typed_rows"), safe=True)
        model.graph.remove(maker(model, "type_rows"), safe=True)
        model.graph.inputs.pop()


@planted
class OutputInHalfPrecision(Planted):
    promise = LOSSY

    def spoil(self, model):
        node = ir.node("Cast", [model.graph.outputs[1]], {"to": ir.DataType.FLOAT16.value})
        old = model.graph.outputs[1]
        model.graph.append(node)
        old.name, node.outputs[0].name = "logits_float", "logits"
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT16)
        node.outputs[0].shape = old.shape
        model.graph.outputs[1] = node.outputs[0]


@planted
class OutputTypeOnlyDeclared(Planted):
    """The file says double, the graph computes float."""

    def spoil(self, model):
        model.graph.outputs[1].type = ir.TensorType(ir.DataType.DOUBLE)


@planted
class BatchMadeStatic(Planted):
    def spoil(self, model):
        for item in model.graph.inputs:
            item.shape = ir.Shape([8, "sequence"])


@planted
class MetadataDropped(Planted):
    def spoil(self, model):
        model.metadata_props.clear()


# Graphs that are none


@planted
class NodesOutOfOrder(Planted):
    def spoil(self, model):
        node = maker(model, "embedded")
        model.graph.remove(node)
        model.graph.append(node)


@planted
class Cycle(Planted):
    def spoil(self, model):
        maker(model, "layer0.q.product").replace_input_with(0, value(model, "layer1.norm2"))


@planted
class DanglingInput(Planted):
    def spoil(self, model):
        maker(model, "layer0.fed").replace_input_with(1, ir.Value(name="nowhere"))


@planted
class WeightRemoved(Planted):
    """The node still asks for it."""

    def spoil(self, model):
        del model.graph.initializers["layer0.q.bias"]


@planted
class UnknownDomain(Planted):
    def spoil(self, model):
        maker(model, "layer0.gelu.erf").domain = "org.example"
        model.opset_imports["org.example"] = 1


@planted
class UnknownOperator(Planted):
    def spoil(self, model):
        maker(model, "layer0.gelu.erf").op_type = "FasterErf"


@planted
class TwoValuesOfOneName(Planted):
    def spoil(self, model):
        maker(model, "layer0.q").outputs[0].name = "layer0.k"


@planted
class WrongTypes(Planted):
    """Integers where the product wants floats."""

    def spoil(self, model):
        store(model, "layer0.q.weight", np.ones((16, 16), np.int64))


@planted
class MoreMemoryThanThereIs(Planted):
    """Two to the fortieth numbers on the way."""

    def spoil(self, model):
        length = constant(model, "length", np.array([1 << 40]))
        number = constant(model, "zeros", np.zeros(1, np.float32))
        wide, least = ir.node("Expand", [number, length]), None
        least = ir.node("ReduceMax", [wide.outputs[0]], {"keepdims": 0})
        model.graph.insert_before(maker(model, "layer0.fed"), [wide, least])
        after(model, "layer0.fed", "Add", least.outputs[0])


# Passes that fail, or lie about what they did


@planted
class Raises(Planted):
    def spoil(self, model):
        self_made = {}
        self_made["missing"]


@planted
class RaisesHalfWay(Planted):
    """The graph is already changed when the error comes."""

    def spoil(self, model):
        store(model, "scale", np.float32(0.5))
        raise AssertionError("no match after all")


@planted
class OutOfMemory(Planted):
    def spoil(self, model):
        raise MemoryError


@planted
class RecursesForever(Planted):
    def spoil(self, model):
        self.spoil(model)


@planted
class ReportsNoRewrite(Planted):
    def apply(self, model, context):
        store(model, "scale", np.float32(0.5))
        return Outcome(0)


@planted
class ReportsNoRewriteButReorders(Planted):
    def apply(self, model, context):
        node = maker(model, "type_rows")
        model.graph.remove(node)
        model.graph.insert_before(maker(model, "typed_rows"), node)
        return Outcome(0)


@planted
class ForgetsItsOutcome(Planted):
    def apply(self, model, context):
        store(model, "scale", np.float32(0.5))


# Int8


class _Int8(Planted):
    phase: ClassVar[Phase] = Phase.COMPRESS
    promise: ClassVar[Promise] = LOSSY

    def spoil(self, model):
        """Right int8 in one place first."""
        products, _ = find_products(model)
        chosen = [item for item in products if item.output.name == "layer0.up"]
        Rewriter(model, 8).product(chosen)
        self.damage(model)

    def damage(self, model):
        raise NotImplementedError

    @staticmethod
    def node(model, operator):
        return next(node for node in model.graph if node.op_type == operator)


@planted
class ZeroPointIgnored(_Int8):
    def damage(self, model):
        product = self.node(model, "MatMulInteger")
        model.graph.insert_before(
            product, fresh := ir.node("MatMulInteger", list(product.inputs[:2]))
        )
        for user, index in list(product.outputs[0].uses()):
            user.replace_input_with(index, fresh.outputs[0])


@planted
class ActivationScaleForgotten(_Int8):
    def damage(self, model):
        quantize = self.node(model, "DynamicQuantizeLinear")
        one = constant(model, "no_scale", np.float32(1.0))
        for user, index in list(quantize.outputs[1].uses()):
            user.replace_input_with(index, one)


@planted
class ScalesOfAnotherChannel(_Int8):
    """Channels of a trained model differ by more than those here, so one is made large."""

    def spoil(self, model):
        array = weight(model, "layer0.up.weight") * np.float32(0.02)
        array[:, 3] *= 3000
        store(model, "layer0.up.weight", array)
        super().spoil(model)

    def damage(self, model):
        name = "layer0.up.weight_scales"
        store(model, name, np.roll(weight(model, name), 1))


@planted
class WeightsClippedToInt4(_Int8):
    """Sixteen levels of a weight that needs many, so that most of it becomes zero."""

    promise = ROUNDING

    def damage(self, model):
        name = "layer0.up.weight_int8"
        store(model, name, np.clip(weight(model, name), -8, 7))


# Where names, nodes and the usual feeds look the same


def _long() -> onnx.ModelProto:
    return encoder(positions=128)


@planted
class RowsPastThoseTried(Planted):
    """A table of positions cut after the rows of short inputs."""

    sample = _long

    def spoil(self, model):
        table = constant(model, "places_cut", weight(model, "places")[:24])
        last = np.minimum(weight(model, "position_ids"), 23)
        maker(model, "place_rows").replace_input_with(0, table)
        maker(model, "positions").replace_input_with(0, constant(model, "few", last))


def _large_vocabulary() -> onnx.ModelProto:
    return encoder(vocabulary=5000)


@planted
class OneRowOfMany(Planted):
    """A row that none of some hundred random ids is likely to read."""

    sample = _large_vocabulary

    def spoil(self, model):
        array = weight(model, "words")
        array[1234] += 1
        store(model, "words", array)


@planted
class OneRowOfManyUnderANewName(Planted):
    sample = _large_vocabulary

    def spoil(self, model):
        array = weight(model, "words")
        array[1234] += 1
        maker(model, "word_rows").replace_input_with(0, constant(model, "words_new", array))


def _old_softmax() -> onnx.ModelProto:
    return onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 12]>
        old (float[batch, 4, 5] x) => (float[batch, 4, 5] y) { y = Softmax (x) }
    """)


@planted
class OpsetOnlyDeclared(Planted):
    """Softmax of operator set 12 works on all axes from the second on, that of 13 on the last."""

    sample = _old_softmax

    def spoil(self, model):
        model.opset_imports[""] = 13


@planted
class OpsetOnlyDeclaredAndNotReported(Planted):
    sample = _old_softmax

    def apply(self, model, context):
        model.opset_imports[""] = 13
        return Outcome(0)


def _function() -> onnx.ModelProto:
    return onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        caller (float[batch, 4] x) => (float[batch, 4] y) { y = local.Activation (x) }
        <domain: "local", opset_import: ["" : 17]>
        Activation (a) => (b) { b = Relu (a) }
    """)


@planted
class FunctionBody(Planted):
    sample = _function

    def spoil(self, model):
        next(iter(next(iter(model.functions.values())))).op_type = "Tanh"


def _branches() -> onnx.ModelProto:
    return onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        merged (float[batch, 2] x, bool[1] use_cache_branch) => (float[batch, 2] y) {
            y = If (use_cache_branch) <
                then_branch = t () => (float[batch, 2] a) { a = Relu (x) },
                else_branch = e () => (float[batch, 2] b) { b = Tanh (x) }
            >
        }
    """)


@planted
class ElseBranch(Planted):
    """As in decoders whose one flag says whether there is a cache."""

    sample = _branches

    def spoil(self, model):
        branch = maker(model, "y").attributes["else_branch"].as_graph()
        next(iter(branch)).op_type = "Sigmoid"


def _scalar_branches() -> onnx.ModelProto:
    message = _branches()
    del message.graph.input[1].type.tensor_type.shape.dim[:]
    return message


@planted
class ElseBranchOfAScalar(ElseBranch):
    sample = _scalar_branches


@planted
class ThenBranch(Planted):
    sample = _branches

    def spoil(self, model):
        branch = maker(model, "y").attributes["then_branch"].as_graph()
        next(iter(branch)).op_type = "Sigmoid"


def _constant_output() -> onnx.ModelProto:
    return onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        labelled (float[batch, 4] x) => (float[batch, 4] y, float[2] c) <float[2] c = {1, 2}> {
            y = Relu (x)
        }
    """)


@planted
class ConstantOutput(Planted):
    sample = _constant_output

    def spoil(self, model):
        store(model, "c", np.array([3, 4], np.float32))


def _windows() -> onnx.ModelProto:
    return stage(0, 1)


@planted
class WindowsInAnotherOrder(Planted):
    """Two rows of a window change places on their way back into the image."""

    sample = _windows

    def spoil(self, model):
        ComposeMoves().apply(model, make_context(last_form))
        back = [node for node in model.graph if node.op_type == "Gather"][-2].inputs[1]
        places = back.const_value.numpy().copy()
        places[[2, 5]] = places[[5, 2]]
        store(model, back.name, places)


@planted
class EndsTheProcess(Planted):
    """As a library does that thinks it is a command."""

    def spoil(self, model):
        raise SystemExit(3)


# Weights with structure


def _product(model: ir.Model, name: str) -> Product:
    return next(item for item in find_products(model)[0] if item.output.name == name)


@planted
class RowsForgotten(Planted):
    """A block that leaves out a row of the weight which is not of zeros."""

    promise = ROUNDING

    def spoil(self, model):
        member = _product(model, "layer0.up")
        block = Block(np.arange(1, member.k), np.arange(member.n))
        sparse_weights.write(member, Apart((block,), member.n), 3)


@planted
class NeededChannelsCut(Planted):
    promise = ROUNDING

    def spoil(self, model):
        products = {item.output: item for item in find_products(model)[0]}
        down = _product(model, "layer0.down")
        hidden = hidden_before([down], products, model.opset_imports[""])
        cutting.apply(Cut(hidden, np.arange(16), (np.zeros(down.n, np.float32),)))


@planted
class RankOfOne(Planted):
    promise = LOSSY

    def spoil(self, model):
        member = _product(model, "layer0.up")
        left, sizes, right = np.linalg.svd(member.weight.const_value.numpy())
        found = Factors(left[:, :1] * sizes[0], right[:1], 1, 0.0, right[0] * 0)
        low_rank.split(member, found)


def _pruned() -> onnx.ModelProto:
    b = Builder()
    b.input("x", onnx.TensorProto.FLOAT, ["rows", 40])
    weight = np.zeros((40, 40))
    weight[np.arange(40), (np.arange(40) * 7) % 40] = 1 + np.arange(40)
    b.constant("weight", weight)
    b.op("MatMul", ["x", "weight"], "y")
    b.output("y", onnx.TensorProto.FLOAT, ["rows", 40])
    return b.message()


@planted
class OneStepTooFar(Planted):
    sample = _pruned

    def spoil(self, model):
        SparseStorage().apply(model, None)
        steps = weight(model, "weight_steps")
        steps[3] += 1
        store(model, "weight_steps", steps)

"""Shapes of all values as polynomials in the sizes of the inputs, worked out from the operators.

Exporters declare the shapes of inner values loosely (`unk__17`), or not at all, while the graph
says what they are: `Reshape(x, Concat(Shape(x)[0], 4, -1))`. This module reads the graph.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass, field

import onnx_ir as ir

from burnish.optimizer.analysis.sizes.contents import Contents, Reader, contents_of
from burnish.optimizer.analysis.sizes.layout import Shape
from burnish.optimizer.analysis.sizes.rules import shapes_of
from burnish.optimizer.analysis.sizes.size import Size, product


@dataclass
class Sizes:
    """Shapes of the values of a model; made once, in one walk over its nodes.

    Attributes:
        shapes: by value, where the rank is known; an unknown size is an atom of its own. Values
            stay in here even when they leave the graph: atoms are named by their identity.
        contents: elements of small vectors of whole numbers, by value.
    """

    shapes: dict[ir.Value, Shape] = field(default_factory=dict)
    contents: dict[ir.Value, Contents] = field(default_factory=dict)
    _named: set[str] = field(default_factory=set)
    _names: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, model: ir.Model) -> Sizes:
        """The sizes of the graph and its subgraphs."""
        found = cls()
        for value in model.graph.inputs:
            found._named |= {str(size) for size in value.shape or () if not isinstance(size, int)}
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            found.visit(node)
        return found

    def shape(self, value: ir.Value | None) -> Shape | None:
        """The shape of a value; None where its rank is not known."""
        if value is None:
            return None
        if value not in self.shapes and (declared := self._declared(value)) is not None:
            self.shapes[value] = declared
        return self.shapes.get(value)

    def elements(self, value: ir.Value | None) -> Contents | None:
        """The elements of a small vector (or scalar) of whole numbers."""
        if value is None:
            return None
        if value not in self.contents:
            constant = contents_of(value)
            if constant is not None:
                self.contents[value] = constant
        return self.contents.get(value)

    def visit(self, node: ir.Node) -> None:
        """Work out a node's outputs from its inputs."""
        made = shapes_of(node, self) if node.domain == "" else []
        for index, value in enumerate(node.outputs):
            shape = made[index] if index < len(made) else None
            if shape is not None:
                self.shapes[value] = self._refined(value, shape)
        if node.domain == "" and len(node.outputs) == 1:
            read = Reader(self.elements, self.shape)
            elements = read.result(node)
            if elements is not None:
                self.contents[node.outputs[0]] = elements
            else:
                self.contents.pop(node.outputs[0], None)

    def copy(self, source: ir.Value, target: ir.Value) -> None:
        """Let a new value have the shape of another one."""
        if (shape := self.shape(source)) is not None:
            self.shapes[target] = shape

    def written(self, size: Size) -> int | str:
        """A number, or text such as `4*batch`; unknown sizes are named after their values."""
        if not self._names:
            self._names |= {id(value): str(value.name) for value in self.shapes}
        return size.number if size.number is not None else size.written(self._name)

    def _name(self, atom: Hashable) -> str:
        match atom:
            case ("min", bound, tuple(terms)):
                return f"min({bound}, {self.written(Size(terms))})"
            case ("floor", tuple(terms), tuple(others)):
                return f"floor(({self.written(Size(terms))}) / ({self.written(Size(others))}))"
            case (int(value), axis):
                if value not in self._names:  # shapes have been found since names were
                    self._names |= {id(value): str(value.name) for value in self.shapes}
                return f"{self._names.get(value, value)}[{axis}]"
        return str(atom)

    def _declared(self, value: ir.Value) -> Shape | None:
        shape = value.const_value.shape if value.const_value is not None else value.shape
        if shape is None:
            return None
        return tuple(
            Size.of(size)
            if isinstance(size, int)
            # Names of the inputs' sizes mean the same; others are the exporter's guess.
            else _parsed(str(size), self._named) or Size.atom((id(value), axis))
            for axis, size in enumerate(shape)
        )

    def _refined(self, value: ir.Value, shape: Shape) -> Shape:
        """The shape with what the graph declares of it."""
        declared = self._declared(value)
        if declared is None or len(declared) != len(shape):
            return shape
        return tuple(
            theirs
            if mine.number is None
            and (theirs.number is not None or mine == Size.atom((id(value), axis)))
            else mine
            for axis, (mine, theirs) in enumerate(zip(shape, declared, strict=True))
        )


def _parsed(text: str, known: Collection[str]) -> Size | None:
    """The sum of products of known names and numbers that a text is; None for other texts."""
    terms = [[factor.strip() for factor in term.split("*")] for term in text.split("+")]
    if all(factor in known or factor.isdecimal() for term in terms for factor in term):
        total = Size.of(0)
        for term in terms:
            total += product(
                Size.of(int(item)) if item.isdecimal() else Size.atom(item) for item in term
            )
        return total
    return Size.atom(text) if text in known else None


def declared(shape: Shape) -> ir.Shape:
    """The shape as the graph declares it: numbers, names of the inputs' sizes, or open."""
    return ir.Shape([size.number if size.number is not None else _known(size) for size in shape])


def _known(size: Size) -> str | None:
    return size.name if isinstance(size.name, str) else None

"""The contract with the user: what the caller of a model sees and every pass must keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir


@dataclass(frozen=True)
class Port:
    """One input or output.

    Attributes:
        name: as the caller writes it.
        dtype: ONNX's name of the element type ("FLOAT", "INT64"), or of another kind of type.
        shape: sizes (int), symbols (str) or unknown (None) by axis; None where the rank is open.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None

    @property
    def is_tensor(self) -> bool:
        """Whether the port is a dense tensor (not a sequence, map or optional)."""
        return self.dtype in ir.DataType.__members__

    def as_json(self) -> dict[str, Any]:
        """The port as the report shows it."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": None if self.shape is None else list(self.shape),
        }


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs in order, and the metadata that travels with the model."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    metadata: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, model: ir.Model) -> Signature:
        """The signature of a model; initializers that are also inputs do not count as inputs."""
        graph = model.graph
        inputs = [value for value in graph.inputs if value.name not in graph.initializers]
        return cls(
            tuple(_port(value) for value in inputs),
            tuple(_port(value) for value in graph.outputs),
            tuple(sorted(model.metadata_props.items())),
        )

    def difference(self, other: Signature) -> str:
        """What `other` changed, in words; empty where it kept everything."""
        for kind, mine, theirs in (
            ("input", self.inputs, other.inputs),
            ("output", self.outputs, other.outputs),
        ):
            if [port.name for port in mine] != [port.name for port in theirs]:
                lost = [port.name for port in mine if port not in theirs]
                return f"the {kind}s changed (was: {', '.join(lost) or 'another order'})"
            for before, after in zip(mine, theirs, strict=True):
                if before != after:
                    return (
                        f"{kind} {before.name} changed from {before.dtype}{before.shape} "
                        f"to {after.dtype}{after.shape}"
                    )
        kept = dict(other.metadata)
        for key, value in self.metadata:
            if kept.get(key) != value:
                return f"metadata {key} changed"
        return ""

    def as_json(self) -> dict[str, Any]:
        """The signature as the report shows it."""
        return {
            "inputs": [port.as_json() for port in self.inputs],
            "outputs": [port.as_json() for port in self.outputs],
            "metadata": dict(self.metadata),
        }


def _port(value: ir.Value) -> Port:
    kind = value.type
    dtype = kind.dtype.name if isinstance(kind, ir.TensorType) else str(kind)
    shape = None
    if value.shape is not None:
        shape = tuple(size if isinstance(size, int) else size.value for size in value.shape)
    return Port(value.name or "", dtype, shape)

"""Runs whose results stay where the model runs, to be given to the next run without a copy.

Decoders hand caches from run to run. On the processor those are arrays: ONNX Runtime reads the
caller's, and what it gives are views of its own tensors (1.31, `docs/negative-results.md`). On
other devices they are values of ONNX Runtime there, bound to inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from onnx import TensorProto, helper

from burnish.optimizer.errors import UsageError
from burnish.optimizer.static_caches import LAYOUT
from burnish.runtimes.arrays import Array
from burnish.runtimes.onnxruntime import explain, open_session

DEVICES = {"cpu": "cpu", "cuda": "cuda", "tensorrt": "cuda"}
"""Where results lie, by provider."""

NUMBERS = {
    "float": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "double": TensorProto.DOUBLE,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}
"""Elements that arrays have too, as ONNX Runtime calls them, inside of `tensor(...)`."""

OTHERS = {"bfloat16": TensorProto.BFLOAT16}
"""Elements that arrays do not have."""

Resident = Any
"""A result that stays; what it is, only its session knows."""


@dataclass(frozen=True)
class Port:
    """An input or output.

    Attributes:
        name: its name.
        type: of its elements, as `TensorProto` numbers them; 0 where it is none of the tables'.
        shape: a number where a size is fixed.
    """

    name: str
    type: int
    shape: tuple[int | str | None, ...]


class ResidentSession(Protocol):
    """A stock session that is given arrays and residents, and gives both."""

    inputs: list[Port]
    outputs: list[Port]
    static: bool
    """Whether its caches are those of `optimizer.static_caches`."""
    together: int
    """Calls from so many threads at once keep it busy."""

    def run(
        self,
        arrays: Mapping[str, Array],
        residents: Mapping[str, Resident],
        given: Sequence[str],
        kept: Sequence[str],
    ) -> tuple[list[Array], list[Resident]]:
        """The outputs named in `given` as arrays, those in `kept` as residents."""

    def empty(self, port: Port, shape: Sequence[int]) -> Resident:
        """A resident for a port, with sizes of which one is 0."""

    def rows(self, residents: Sequence[Resident], index: Array) -> list[Resident]:
        """Those rows of the first axis of each, in that order; [rows] int64."""

    def cut(self, residents: Sequence[Resident], length: int) -> list[Resident]:
        """Only so many places of the third axis of each."""

    def close(self) -> None:
        """Free the session; a second call does nothing."""


def open_resident(path: Path, *, provider: str = "cpu", threads: int = 0) -> ResidentSession:
    """The session that suits the provider and the model's types.

    Raises:
        UsageError: where the provider is none of ONNX Runtime's, or did not start.
        UnsupportedModel: where ONNX Runtime does not accept the model.
    """
    if provider not in DEVICES:
        raise UsageError(f"no text is generated on {provider}", hint=", ".join(DEVICES))
    session = open_session(path, provider=provider, threads=threads)
    ports = [*session.get_inputs(), *session.get_outputs()]
    if DEVICES[provider] == "cpu" and all(_element(port) in NUMBERS for port in ports):
        return ArraySession(session)
    return BoundSession(session, provider=provider)


class ArraySession:
    """On the processor; see `ResidentSession`."""

    together = 1

    def __init__(self, session: Any) -> None:
        self._session, self.static = session, is_static(session)
        self.inputs, self.outputs = _ports(session)

    def run(
        self,
        arrays: Mapping[str, Array],
        residents: Mapping[str, Resident],
        given: Sequence[str],
        kept: Sequence[str],
    ) -> tuple[list[Array], list[Resident]]:
        try:
            results = self._session.run([*given, *kept], {**arrays, **residents})
        except Exception as error:  # the binding raises types of its own
            raise explain(error) from None
        return results[: len(given)], results[len(given) :]

    def empty(self, port: Port, shape: Sequence[int]) -> Resident:
        return np.zeros(shape, helper.tensor_dtype_to_np_dtype(port.type))

    def rows(self, residents: Sequence[Resident], index: Array) -> list[Resident]:
        return [array[index] for array in residents]

    def cut(self, residents: Sequence[Resident], length: int) -> list[Resident]:
        return [np.ascontiguousarray(array[:, :, :length]) for array in residents]

    def close(self) -> None:
        self._session = None


class BoundSession:
    """On a device, by binding; see `ResidentSession`.

    Rows are taken, and ends cut off, by small models that run there too.
    """

    together = 1

    def __init__(self, session: Any, *, provider: str) -> None:
        import onnxruntime

        self._session, self._provider, self.static = session, provider, is_static(session)
        self._values, self._device = onnxruntime.OrtValue, DEVICES[provider]
        self.inputs, self.outputs = _ports(session)
        self._binding = session.io_binding()
        self._movers: dict[tuple[str, tuple[int, ...]], BoundSession] = {}

    def run(
        self,
        arrays: Mapping[str, Array],
        residents: Mapping[str, Resident],
        given: Sequence[str],
        kept: Sequence[str],
    ) -> tuple[list[Array], list[Resident]]:
        binding = self._binding
        for name, array in arrays.items():
            binding.bind_cpu_input(name, array)
        for name, value in residents.items():
            binding.bind_ortvalue_input(name, value)
        # Bound anew each time: else a run would write over what the one before it gave.
        for name in given:
            binding.bind_output(name, "cpu")
        for name in kept:
            binding.bind_output(name, self._device)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # the binding raises types of its own
            raise explain(error) from None
        values = binding.get_outputs()
        binding.clear_binding_outputs()
        return [value.numpy() for value in values[: len(given)]], values[len(given) :]

    def empty(self, port: Port, shape: Sequence[int]) -> Resident:
        return self._values.ortvalue_from_shape_and_type(list(shape), port.type, self._device, 0)

    def rows(self, residents: Sequence[Resident], index: Array) -> list[Resident]:
        return self._moved("Gather", residents, index)

    def cut(self, residents: Sequence[Resident], length: int) -> list[Resident]:
        return self._moved("Slice", residents, np.array([length]))

    def _moved(self, operator: str, residents: Sequence[Resident], index: Array) -> list[Resident]:
        if not residents:
            return []
        types = tuple(value.element_type() for value in residents)
        key = operator, types
        if key not in self._movers:
            session = open_session(mover(operator, types), provider=self._provider)
            self._movers[key] = BoundSession(session, provider=self._provider)
        names = [f"in_{place}" for place in range(len(types))]
        kept = [f"out_{place}" for place in range(len(types))]
        given = dict(zip(names, residents, strict=True))
        return self._movers[key].run({"index": index}, given, (), kept)[1]

    def close(self) -> None:
        for session in self._movers.values():
            session.close()
        self._session = self._binding = None


def mover(operator: str, types: Sequence[int]) -> bytes:
    """A model that gathers rows of each of its inputs, or slices off ends of their third axes."""
    constants = [
        helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [2]),
    ]
    inputs = [helper.make_tensor_value_info("index", TensorProto.INT64, ["count"])]
    outputs, nodes = [], []
    for place, kind in enumerate(types):
        name, result = f"in_{place}", f"out_{place}"
        inputs.append(helper.make_tensor_value_info(name, kind, [None] * 4))
        outputs.append(helper.make_tensor_value_info(result, kind, [None] * 4))
        if operator == "Gather":
            nodes.append(helper.make_node("Gather", [name, "index"], [result], axis=0))
        else:
            nodes.append(helper.make_node("Slice", [name, "zero", "index", "axis"], [result]))
    used = constants if operator == "Slice" else []
    graph = helper.make_graph(nodes, "mover", inputs, outputs, used)
    opsets = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def is_static(session: Any) -> bool:
    """Whether a stock session's caches are those of `optimizer.static_caches`."""
    key, value = LAYOUT
    return bool(session.get_modelmeta().custom_metadata_map.get(key) == value)


def _ports(session: Any) -> tuple[list[Port], list[Port]]:
    """Inputs and outputs, as ONNX Runtime tells of them."""
    types = NUMBERS | OTHERS

    def ports(items: Any) -> list[Port]:
        return [Port(port.name, types.get(_element(port), 0), tuple(port.shape)) for port in items]

    return ports(session.get_inputs()), ports(session.get_outputs())


def _element(port: Any) -> str:
    return str(port.type).removeprefix("tensor(").removesuffix(")")

"""Runs whose results stay where the model runs, to be given to the next run without a copy.

Decoders hand caches from run to run. Through `Session.run` each would become an array and a tensor
again: here they stay values of ONNX Runtime, on the device, bound to inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from burnish.optimizer.errors import UsageError
from burnish.runtimes.arrays import Array
from burnish.runtimes.onnxruntime import explain, open_session

DEVICES = {"cpu": "cpu", "cuda": "cuda", "tensorrt": "cuda"}
"""Where results lie, by provider."""

TYPES = {
    "float": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "double": TensorProto.DOUBLE,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}
"""Elements as ONNX Runtime calls them, inside of `tensor(...)`."""

Resident = Any
"""A value of ONNX Runtime; where it lies is its own business."""


@dataclass(frozen=True)
class Port:
    """An input or output.

    Attributes:
        name: its name.
        type: of its elements, as `TensorProto` numbers them.
        shape: a number where a size is fixed.
    """

    name: str
    type: int
    shape: tuple[int | str | None, ...]


class ResidentSession:
    """A stock session that is given arrays and residents, and gives both.

    Raises:
        UsageError: where the provider is none of ONNX Runtime's, or did not start.
        UnsupportedModel: where ONNX Runtime does not accept the model.
    """

    def __init__(self, model: Path | bytes, *, provider: str = "cpu", threads: int = 0) -> None:
        if provider not in DEVICES:
            raise UsageError(f"no text is generated on {provider}", hint=", ".join(DEVICES))
        import onnxruntime

        self._session = open_session(model, provider=provider, threads=threads)
        self._device, self._values = DEVICES[provider], onnxruntime.OrtValue
        self.inputs = [_port(item) for item in self._session.get_inputs()]
        self.outputs = [_port(item) for item in self._session.get_outputs()]
        self._binding = self._session.io_binding()

    def run(
        self,
        arrays: Mapping[str, Array],
        residents: Mapping[str, Resident],
        given: Sequence[str],
        kept: Sequence[str],
    ) -> tuple[list[Array], list[Resident]]:
        """The outputs named in `given` as arrays, those in `kept` as residents."""
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
        arrays_out = [value.numpy() for value in values[: len(given)]]
        return arrays_out, values[len(given) :]

    def empty(self, port: Port, shape: Sequence[int]) -> Resident:
        """A resident for a port, with sizes of which one is 0."""
        return self._values.ortvalue_from_shape_and_type(list(shape), port.type, self._device, 0)

    def close(self) -> None:
        """Free the session; a second call does nothing."""
        self._session = self._binding = None


class Mover:
    """Takes rows of residents, or cuts them off, where they lie.

    Args:
        ports: one for each resident, with four axes.
        provider, threads: as for the session that gives them.
    """

    def __init__(self, ports: Sequence[Port], *, provider: str, threads: int) -> None:
        self._ports = list(ports)
        self._provider, self._threads = provider, threads
        self._sessions: dict[str, ResidentSession] = {}

    def rows(self, residents: Sequence[Resident], index: Array) -> list[Resident]:
        """Those rows of the first axis, in that order; [rows] int64."""
        return self._run("Gather", residents, {"index": index})

    def cut(self, residents: Sequence[Resident], length: int) -> list[Resident]:
        """Only so many places of the third axis."""
        return self._run("Slice", residents, {"index": np.array([length])})

    def _run(
        self, kind: str, residents: Sequence[Resident], arrays: Mapping[str, Array]
    ) -> list[Resident]:
        if kind not in self._sessions:
            model = _moving(kind, self._ports)
            self._sessions[kind] = ResidentSession(
                model, provider=self._provider, threads=self._threads
            )
        names = [f"in_{place}" for place in range(len(residents))]
        kept = [f"out_{place}" for place in range(len(residents))]
        given = dict(zip(names, residents, strict=True))
        return self._sessions[kind].run(arrays, given, (), kept)[1]

    def close(self) -> None:
        """Free the sessions."""
        for session in self._sessions.values():
            session.close()


def _moving(kind: str, ports: Sequence[Port]) -> bytes:
    """A model that does the same to each of its inputs."""
    constants = [
        helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
        helper.make_tensor("places", TensorProto.INT64, [1], [2]),
    ]
    inputs = [helper.make_tensor_value_info("index", TensorProto.INT64, ["count"])]
    outputs, nodes = [], []
    for place, port in enumerate(ports):
        name, result = f"in_{place}", f"out_{place}"
        inputs.append(helper.make_tensor_value_info(name, port.type, [None] * 4))
        outputs.append(helper.make_tensor_value_info(result, port.type, [None] * 4))
        if kind == "Gather":
            nodes.append(helper.make_node("Gather", [name, "index"], [result], axis=0))
        else:
            nodes.append(helper.make_node("Slice", [name, "zero", "index", "places"], [result]))
    graph = helper.make_graph(
        nodes, "moving", inputs, outputs, constants if kind == "Slice" else []
    )
    opsets = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def _port(item: Any) -> Port:
    """What ONNX Runtime tells of a port."""
    kind = item.type.removeprefix("tensor(").removesuffix(")")
    return Port(item.name, TYPES.get(kind, TensorProto.UNDEFINED), tuple(item.shape))

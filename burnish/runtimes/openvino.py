"""OpenVINO, which reads the same ONNX files, on the processor.

On processors with bfloat16 instructions OpenVINO computes float32 models in bfloat16 unless it is
told otherwise, and it quantizes activations of compressed weights. Neither was asked for, so that
sessions here compute in the types that the model names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from burnish.optimizer.errors import BurnishError, ResourceLimit, UnsupportedModel, UsageError
from burnish.runtimes.arrays import Array

DEVICE = "CPU"

SETTINGS = {
    "EXECUTION_MODE_HINT": "ACCURACY",
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    "PERFORMANCE_HINT": "LATENCY",
}
"""Names and values are those of OpenVINO's documentation of its CPU device."""

NOTE = (
    "OpenVINO was held to float32 (INFERENCE_PRECISION_HINT=f32, as burnish.load does); by itself "
    "it computes in bfloat16 where the processor can"
)

MISSING = "pip install 'burnish[openvino]'"


@dataclass(frozen=True)
class Port:
    """An input or output, as `InferenceSession.get_inputs` gives them.

    Attributes:
        name: in the model's file.
        type: as ONNX Runtime writes it.
        shape: None for each size that is open.
    """

    name: str
    type: str
    shape: tuple[int | None, ...] | None


class Session:
    """A model compiled by OpenVINO; see `interface.Runtime`.

    OpenVINO always optimizes: `optimize` and `runs` are taken for the sake of the table, and change
    nothing.

    Raises:
        UsageError: where OpenVINO is not installed.
        UnsupportedModel: where it does not accept the model.
    """

    def __init__(
        self,
        path: Path,
        *,
        provider: str = "openvino",
        threads: int = 0,
        optimize: bool = True,
        runs: bool = True,
    ) -> None:
        self._library = library()
        settings = SETTINGS | ({"INFERENCE_NUM_THREADS": str(threads)} if threads else {})
        try:
            core = self._library.Core()
            model = core.read_model(str(path))
            # Of the model as it was read: compiling gives values the names of what they replace.
            self._inputs, self._outputs = _names(model.inputs), _names(model.outputs)
            self._ports = _ports(model.inputs, self._inputs), _ports(model.outputs, self._outputs)
            self._request = core.compile_model(model, DEVICE, settings).create_infer_request()
        except Exception as error:  # the binding raises RuntimeError for all that goes wrong
            raise explain(error) from None

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Array]
    ) -> list[Array]:
        """The outputs asked for (all where None), in order.

        Raises:
            UsageError: where an input is missing, or a name is not one of the model's.
        """
        if unknown := set(input_feed) ^ set(self._inputs):
            raise UsageError(f"{min(unknown)} is missing, or no input of the model")
        wanted = self._outputs if output_names is None else list(output_names)
        if unknown := set(wanted) - set(self._outputs):
            raise UsageError(f"{min(unknown)} is no output of the model")
        # Kept until the run is over: tensors share the memory of their arrays.
        arrays = [np.require(input_feed[name], requirements="C") for name in self._inputs]
        for index, array in enumerate(arrays):
            self._request.set_input_tensor(index, self._library.Tensor(array, shared_memory=True))
        self._request.infer()
        places = [self._outputs.index(name) for name in wanted]
        return [np.array(self._request.get_output_tensor(index).data) for index in places]

    def get_inputs(self) -> list[Port]:
        """The inputs, in the order of the model."""
        return self._ports[0]

    def get_outputs(self) -> list[Port]:
        """The outputs, likewise."""
        return self._ports[1]

    def fallen(self) -> list[tuple[str, int]]:
        """None of them: OpenVINO takes a model as a whole or not at all."""
        return []

    def close(self) -> None:
        """Free the model; a second call does nothing."""
        self._request = None


def library() -> Any:
    """OpenVINO's package; raises UsageError where it is not installed or does not load."""
    try:
        import openvino
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == "openvino"
        reason = "OpenVINO is not installed" if absent else f"OpenVINO does not load: {error}"
        raise UsageError(f"the openvino provider did not start: {reason}", hint=MISSING) from None
    return openvino


def _names(ports: Sequence[Any]) -> list[str]:
    """The name of each port in the model's file."""
    found = []
    for port in ports:
        names = port.get_names()
        known = port.node.friendly_name.removesuffix("/sink_port_0")
        found.append(known if known in names or not names else min(names))
    return found


TYPES = {"float32": "float", "float64": "double"}
"""Types that ONNX Runtime calls otherwise than numpy does."""


def _ports(ports: Sequence[Any], names: Sequence[str]) -> list[Port]:
    """Types and shapes, as far as OpenVINO has them as numpy does."""
    found = []
    for port, name in zip(ports, names, strict=True):
        kind, shape = port.get_element_type(), port.get_partial_shape()
        try:
            told = kind.to_dtype().name
        except Exception:  # of strings and the types that numpy has not
            told = kind.get_type_name()
        sizes = None
        if shape.rank.is_static:
            sizes = tuple(size.get_length() if size.is_static else None for size in shape)
        found.append(Port(name, f"tensor({TYPES.get(told, told)})", sizes))
    return found


def explain(error: Exception) -> Exception:
    """OpenVINO's failure in our terms."""
    if isinstance(error, BurnishError):
        return error
    text = str(error)
    if isinstance(error, MemoryError) or "bad_alloc" in text or "allocate" in text.lower():
        return ResourceLimit("the memory limit was reached", hint="--memory-limit")
    return UnsupportedModel(f"OpenVINO does not accept it: {_reason(text)}")


def _reason(text: str) -> str:
    """What is wrong, without the places in OpenVINO's own source that precede it."""
    noise = (
        r"Exception from \S+:\d+:",
        r"(?:Check '[^\n]*' )?failed at \S+:\d+:",
        r"FrontEnd API failed with \w+:",
        r"Model wasn't fully converted\.\s*Summary:\s*(?:--)?",
    )
    for pattern in noise:
        text = re.sub(pattern, " ", text)
    return " ".join(text.split())[:240] or "it does not say why"

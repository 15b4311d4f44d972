"""Old operator sets are raised to the oldest one that the later passes can write for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from burnish.optimizer import sandbox
from burnish.optimizer.contract import ROUNDING, Context, Outcome, Pass, Phase
from burnish.optimizer.errors import UnsupportedModel, first_line
from burnish.optimizer.model import adopt, without_weights
from burnish.optimizer.sandbox import Limits


@dataclass(frozen=True)
class RaiseOpset(Pass):
    """Convert to operator set `target` where the model has an older one.

    Before:
        A model of operator set 9.
    After:
        The same model of operator set `target`; the report says so.
    Refuses when:
        ONNX's version converter has no adapter for an operator.
    Numerics:
        Rounding.
    """

    target: int = 13

    name = "raise-opset"
    phase = Phase.RECOVER
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Raise in place."""
        opset = model.opset_imports.get("", self.target)
        if opset >= self.target:
            return Outcome()
        with tempfile.TemporaryDirectory() as folder:
            source, result = Path(folder) / "old.onnx", Path(folder) / "new.onnx"
            source.write_bytes(without_weights(model).SerializeToString())
            sandbox.call(
                f"{__name__}:convert",
                {"source": str(source), "result": str(result), "target": self.target},
                Limits(context.limits.memory, min(60.0, context.limits.wall)),
            )
            adopt(model, onnx.load(result))
        model.opset_imports[""] = self.target
        opsets = [onnx.helper.make_opsetid("", self.target)]
        model.ir_version = max(model.ir_version, onnx.helper.find_min_ir_version_for(opsets, True))
        return Outcome(1, detail=f"operator set raised from {opset} to {self.target}")


def convert(argument: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The child's side: convert `source` to operator set `target`, write `result`."""
    message = onnx.load(argument["source"])
    try:
        converted = onnx.version_converter.convert_version(message, argument["target"])
    except Exception as error:  # the converter raises whatever its parts raise
        raise UnsupportedModel(f"ONNX's version converter raised {first_line(error)}") from None
    onnx.save(converted, argument["result"])
    return {}

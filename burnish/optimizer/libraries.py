"""Work of libraries that may crash, as a sandboxed child does it.

A child imports what its target's module imports, so that this one stands apart from the passes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import onnx

from burnish.optimizer.errors import UnsupportedModel, first_line

Emit = Callable[[dict[str, Any]], None]


def convert(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Convert `source` to the first of the operator sets `targets` that works, write `result`.

    Returns:
        `target`, and why the first one before it could not be reached (`reason`).

    Raises:
        UnsupportedModel: where none can be.
    """
    message = onnx.load(argument["source"])
    reason = ""
    for target in argument["targets"]:
        try:
            converted = onnx.version_converter.convert_version(message, target)
        except Exception as error:  # the converter raises whatever its parts raise
            reason = reason or f"ONNX's version converter raised {first_line(error)}"
            continue
        onnx.save(converted, argument["result"])
        return {"target": target, "reason": reason}
    raise UnsupportedModel(reason)


def simplify(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Run onnxsim on `source` without the optimizers `skipped`, write `target`.

    Raises:
        UnsupportedModel: where the library raises.
    """
    # It imports torch where that is installed, for what is not used here: two thirds of its start.
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    import onnxsim

    message = onnx.load(argument["source"])
    try:
        # The library stumbles over outputs without a shape; declared ones are put back afterwards.
        message = onnx.shape_inference.infer_shapes(message)
        simple, _ = onnxsim.simplify(
            message,
            check_n=0,
            skip_shape_inference=False,
            skipped_optimizers=argument["skipped"],
            tensor_size_threshold="64KB",
        )
    except Exception as error:  # the library raises whatever its parts raise
        raise UnsupportedModel(f"onnxsim raised {first_line(error)}") from None
    onnx.save(simple, argument["target"])
    return {}

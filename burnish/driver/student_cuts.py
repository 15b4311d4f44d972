"""A student that is what is kept of its teacher."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from burnish.driver.workbench import Workbench
from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.stream import Stream, stream_of
from burnish.optimizer.errors import UnsupportedModel, UsageError
from burnish.optimizer.layers import keep_layers, spread


def cut(
    bench: Workbench, teacher: ir.Model, stream: Stream, kept: Mapping[str, float]
) -> ir.Model:
    """The student's graph.

    Args:
        bench: the teacher's.
        teacher: its graph after recovery; stays as it is.
        stream: of that graph.
        kept: `layers` and `heads` as numbers, `channels` as a share; those not named stay.

    Raises:
        UnsupportedModel: the teacher has no layers to leave out.
        UsageError: it has fewer.
    """
    model = teacher.clone()
    if "layers" in kept:
        count = int(kept["layers"])
        if not stream.layers:
            raise UnsupportedModel("no layers were found that could be left out", hint="a student as a file")
        if count > len(stream.layers):
            raise UsageError(f"the teacher has {len(stream.layers)} layers, not {count}")
        own = stream_of(model, bench.slots, shapes.infer(model, bench.sizes()))
        keep_layers(model, own, spread(count, len(own.layers)))
    return model

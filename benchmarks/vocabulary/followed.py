"""Whether tokens can be cut out of exports of many architectures, and what that changes.

    python benchmarks/vocabulary/followed.py FOLDER [NAME ...]

exports the architectures of `tests/matrix` that read text where FOLDER lacks them (small, random
weights), keeps a third of their tokens, with new ids and with the old ones, and prints how far
outputs are apart at kept tokens, or why nothing was cut.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import exporting
from harness import made_up, make_context, run_model
from matrix.architectures import ARCHITECTURES, Architecture, built
from matrix.inputs import TRACED

from burnish.driver.plan import passes_for
from burnish.driver.request import Request
from burnish.optimizer import pipeline
from burnish.optimizer.contract import relative_l2
from burnish.optimizer.roles import Role, slots
from burnish.optimizer.undefined import cleared
from burnish.passes.compress.vocabulary.vocabulary import Vocabulary

EXPORTERS = (("torchscript", 17), ("dynamo", 20))
SLOW = {"onnxsim", "raise-opset"}
SPECIAL = {0, 1, 2, 3}


def export(architecture: Architecture, path: Path, exporter: str, opset: int) -> None:
    """Write a model, with sdpa where it has that."""
    try:
        model = built(architecture, "sdpa")
    except ValueError:
        model = built(architecture, "eager")
    inputs = architecture.inputs(TRACED)
    try:
        exporting.export(model, inputs, path, exporter, opset)
    except Exception:  # an axis is not as free as dynamo was told
        if exporter != "dynamo":
            raise
        exporting.export(model, inputs, path, exporter, opset, automatic=True)


def apart(model: ir.Model, kept: tuple[int, ...]) -> Iterator[str]:
    """What comes of cutting, with new ids and with the old ones."""
    early = [
        item for item in passes_for(Request("model.onnx", measure=False))
        if item.phase.value in ("recover", "restructure") and item.name not in SLOW
    ]  # fmt: skip
    context = make_context(sizes={"batch": 2, "sequence": 16})
    recovered = pipeline.run(model, early, context, None).model
    feeds = made_up(model, allowed=kept)
    wanted = run_model(model, feeds)
    for keep_ids in (False, True):
        compiled = pipeline.run(recovered, [Vocabulary(kept, keep_ids)], context, None)
        (step,) = compiled.steps
        if step.status != "kept":
            yield f"not cut: {step.reason or step.outcome.detail}"
            continue
        ports = compiled.ports
        given = run_model(ports.exposed(compiled.model), [ports.given(feed) for feed in feeds])
        worst = 0.0
        for feed, mine, theirs in zip(feeds, wanted, given, strict=True):
            taken: dict[str, Any] = ports.taken(theirs)
            for name, array in cleared(mine, feed, compiled.undefined).items():
                worst = max(worst, relative_l2(array, taken[name]))
        yield f"{step.outcome.detail}: {worst:.1e} over {len(feeds)} inputs"


def main() -> None:
    """Print a line for each export and kind of ids."""
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(exist_ok=True)
    warnings.simplefilter("ignore")
    for architecture in ARCHITECTURES:
        if names and architecture.name not in names:
            continue
        for exporter, opset in EXPORTERS:
            path = folder / f"{architecture.name}-{exporter}.onnx"
            try:
                if not path.exists():
                    torch.manual_seed(0)
                    export(architecture, path, exporter, opset)
            except Exception as error:  # whatever the exporter raises
                print(architecture.name, exporter, "is not exported:", str(error).split("\n")[0])
                continue
            model = ir.from_proto(onnx.load(path))
            ids = [slot for slot in slots(model) if slot.role is Role.IDS]
            if not ids:
                continue
            rows = max(slot.bound for slot in ids)
            some = np.random.default_rng(0).choice(rows, rows // 3, replace=False)
            kept = tuple(sorted(SPECIAL | set(some.tolist())))
            for told in apart(model, kept):
                print(architecture.name, exporter, told, flush=True)


if __name__ == "__main__":
    main()

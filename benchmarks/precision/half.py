"""Short types on many exports: which nodes take them, what it costs, and that it gives numbers.

    python benchmarks/precision/half.py [--bf16] MODEL [MODEL ...]

compiles each as for a GPU (no GPU is needed: ONNX Runtime's processor runs float16 with casts, and
bfloat16 is emulated), then runs input and result on made-up inputs, on the same with masks that
hide everything, and with floats a thousand times as large. A row counts as broken where the result
is infinite or no number and the input model's answer is a number.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from harness import made_up, make_checker, make_context, make_executor, run_model

from burnish.driver.plan import passes_for
from burnish.driver.request import Request
from burnish.optimizer import pipeline
from burnish.optimizer.calibration import Calibration
from burnish.optimizer.contract import Feeds, relative_l2
from burnish.optimizer.emulation import emulated

LARGER = 1000.0

SHORT = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}


def hostile(feed: Feeds) -> list[Feeds]:
    """The feed with all masks zero, and with its floats much larger."""
    hidden, large = dict(feed), dict(feed)
    for name, array in feed.items():
        if "mask" in name and array.dtype.kind in "ib":
            hidden[name] = np.zeros_like(array)
        if array.dtype.kind == "f":
            large[name] = array * np.float32(LARGER)
    return [hidden, large]


def row(path: Path, precision: str) -> str:
    """What became of one model."""
    model = ir.from_proto(onnx.load(path))
    feeds = made_up(model)
    hard = [item for feed in feeds for item in hostile(feed)]
    with tempfile.TemporaryDirectory() as folder:
        executor = make_executor(Path(folder))
        observe = Calibration(executor, executor.store([*feeds, *hard]))
        context = make_context(provider="cuda", observe=observe)
        passes = passes_for(Request(str(path), provider="cuda", **{precision: True}))
        check = make_checker(executor, model).check
        compiled = pipeline.run(model, passes, context, check)
    step = compiled.steps[-1]
    if step.status != "kept":
        return f"| {path.stem} | {step.status}: {step.reason[:300]} | | | |"
    half = sum(node.outputs[0].dtype in SHORT for node in compiled.model.graph)
    after = emulated(compiled.model)
    broken, worst = 0, 0.0
    for index, feed in enumerate([*feeds, *hard]):
        mine, theirs = (run_model(item, [feed])[0] for item in (model, after))
        for name, array in mine.items():
            if array.dtype.kind != "f":
                continue
            broken += int(not np.isfinite(theirs[name][np.isfinite(array)]).all())
            if index < len(feeds):
                worst = max(worst, relative_l2(array, theirs[name]))
    return f"| {path.stem} | {half} | {len(step.outcome.refusals)} | {worst:.1e} | {broken} |"


def main() -> None:
    """A row for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    print("| model | nodes in it | in float32 | worst error | broken |\n|---|---|---|---|---|")
    for path in options.models:
        print(row(path, "bf16" if options.bf16 else "fp16"), flush=True)


if __name__ == "__main__":
    main()

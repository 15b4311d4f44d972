"""One run of a model's chain for each kind of layer, as files with what flows into them."""

from __future__ import annotations

from burnish.driver.devices import Timed
from burnish.driver.workbench import Workbench
from burnish.optimizer.errors import UnsupportedModel
from burnish.optimizer.executor import Job
from burnish.optimizer.partition.chain import Chain, Shapes
from burnish.optimizer.partition.cluster import Device
from burnish.optimizer.partition.plans import Plan, Stage
from burnish.optimizer.partition.segments import distinct, segments
from burnish.optimizer.partition.stages import file_of, stage_models
from burnish.optimizer.saving import save

MOST = 12
"""Kinds of runs that are timed, those with the most operators and bytes in all."""


def runs_of(bench: Workbench, chain: Chain, shapes: Shapes) -> list[Timed]:
    """Runs to be timed; the whole model is run once, one run of the chain after the other.

    Raises:
        UnsupportedModel: it does not run at the sizes of `--shape`.
    """
    found = segments(chain, shapes)
    device = Device("", 1.0, 1.0)
    stages = [Stage(device, item.start, item.end, 0.0, 0.0, 0.0, 0.0) for item in found]
    models = stage_models(bench.loaded.model, chain, Plan(tuple(stages), 0.0))

    def work(start: int, end: int) -> float:
        return sum(atom.flops + atom.moved for atom in chain.atoms[start:end])

    kinds = sorted(distinct(found), key=lambda pair: -pair[1] * work(pair[0].start, pair[0].end))
    wanted = {item.start for item, _ in kinds[:MOST]}
    folder, timed = bench.executor.folder(), []
    values = dict(bench.timing_feed())
    for index, (item, stage) in enumerate(zip(found, models, strict=True)):
        path, results = folder / file_of(index), bench.executor.folder()
        save(stage.model, path, external=False)
        feeds = bench.executor.store([{name: values[name] for name in stage.inputs}])[0]
        outcome = bench.executor.run([Job(path, [[feeds]], results)])[0]
        if outcome["error"] or outcome["failed"]:
            reason = outcome["error"] or next(iter(outcome["failed"].values()))
            raise UnsupportedModel(f"it does not run at these sizes: {reason}", hint="--shape")
        values |= bench.executor.read(results / "0")
        if item.start in wanted:
            timed.append(Timed(item, path, feeds))
        else:
            path.unlink()
    return timed

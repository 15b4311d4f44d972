"""The model of each stage: plain ONNX, with the values that come in and go out as its ports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from burnish.optimizer.artifact import PIPELINE
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.planner import Plan
from burnish.optimizer.regions import captured, cut

SCHEMA = 1


@dataclass(frozen=True)
class StageModel:
    """A stage as a model.

    Attributes:
        inputs: names of the model's inputs and of earlier stages' outputs that it takes.
        outputs: names of what later stages or the caller take of it.
    """

    model: ir.Model
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def stage_models(model: ir.Model, chain: Chain, plan: Plan) -> list[StageModel]:
    """The stages' models, with the weights of the whole one, which stays as it is.

    Args:
        model: its values know their types (`shapes.annotate`).
        chain: of the model.
        plan: of the chain.
    """
    place = {node: index for index, node in enumerate(chain.nodes)}
    ports = {value: index for index, value in enumerate(model.graph.outputs)}
    found = []
    for number, stage in enumerate(plan.stages):
        nodes = chain.nodes[stage.start : stage.end]
        inside = set(nodes)
        outputs = [
            value
            for node in nodes
            for value in node.outputs
            if value in ports or chain.last_reader.get(value, -1) >= stage.end
        ]
        if number == len(plan.stages) - 1:
            outputs += [value for value in ports if value.producer() not in place]
        outputs.sort(key=lambda value: (value not in ports, ports.get(value, 0)))
        inputs = _inputs(model, [*nodes, *_makers(outputs, inside)], inside, place)
        names = [value.name or "" for value in inputs], [value.name or "" for value in outputs]
        made = cut(model, *names)
        given = {value.name: value for value in made.graph.outputs}
        made.graph.outputs[:] = [given[name] for name in names[1]]
        found.append(StageModel(made, tuple(names[0]), tuple(names[1])))
    return found


def manifest(model: ir.Model, stages: Sequence[dict[str, Any]], version: str) -> dict[str, Any]:
    """What a runtime has to know: files, devices, and by names which value goes where.

    Args:
        model: the whole one, whose ports are those of the folder.
        stages: rows of `stage_rows`, or of `shards.manifest.stage_row`.
        version: of the program that writes it.
    """
    return {
        "burnish": version,
        "schema": SCHEMA,
        "task": PIPELINE,
        "inputs": [value.name for value in model.graph.inputs],
        "outputs": [value.name for value in model.graph.outputs],
        "stages": list(stages),
    }


def stage_rows(stages: Sequence[StageModel], plan: Plan) -> list[dict[str, Any]]:
    """What the manifest says of stages that are a file each."""
    return [
        {
            "file": file_of(index),
            "device": item.device.name,
            **({"devices": [one.name for one in item.devices]} if item.others else {}),
            "inputs": list(stage.inputs),
            "outputs": list(stage.outputs),
        }
        for index, (stage, item) in enumerate(zip(stages, plan.stages, strict=True))
    ]


def file_of(index: int) -> str:
    """The file of a stage in its folder."""
    return f"stage-{index + 1}.onnx"


def _makers(values: list[ir.Value], inside: set[ir.Node]) -> list[ir.Node]:
    made = (value.producer() for value in values)
    return [node for node in made if node is not None and node not in inside]


def _inputs(
    model: ir.Model, nodes: list[ir.Node], inside: set[ir.Node], place: dict[ir.Node, int]
) -> list[ir.Value]:
    """What comes from outside: inputs of the model, and what earlier stages made."""
    found: dict[ir.Value, None] = {}
    stack, seen = list(nodes), set(nodes)
    while stack:
        for value in captured(stack.pop()):
            maker = value.producer()
            if maker in inside or maker in seen:
                continue
            if maker is None:
                if value in model.graph.inputs and value.const_value is None:
                    found[value] = None
            elif maker in place:
                found[value] = None
            else:
                seen.add(maker)
                stack.append(maker)
    ports = {value: index for index, value in enumerate(model.graph.inputs)}
    return sorted(found, key=lambda value: (ports.get(value, len(ports)), value.name or ""))

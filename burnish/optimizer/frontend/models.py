"""Loading a checkpoint's model into PyTorch, and nothing that its weights do not hold."""

from __future__ import annotations

import re
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto

from burnish.optimizer.errors import InvalidModel, UnsupportedModel, UsageError, first_line
from burnish.optimizer.frontend.checkpoint import CONFIG, Checkpoint
from burnish.optimizer.frontend.tasks import BARE, TASKS, Task, named

POOLER = "pooler."
"""What stands behind the hidden states of a model without a head."""

NUMBER = re.compile(r"\.\d+\.")
"""The number of a layer in the name of a weight."""

EXPERTS = "batched_mm"
"""How experts are computed: the default of Transformers is none that an exporter takes."""


def task_of(config: dict[str, Any], asked: str | None) -> Task:
    """The task asked for, or that of the class that the configuration names.

    Raises:
        UsageError: neither is known.
    """
    if asked:
        return named(asked)
    names = config.get("architectures") or []
    for name in names if isinstance(names, list) else []:
        for task in TASKS.values():
            table = getattr(modeling_auto, f"MODEL_FOR_{task.mapping}_MAPPING_NAMES", {})
            if name in _classes(table):
                return task
        if name in _classes(modeling_auto.MODEL_MAPPING_NAMES):
            return TASKS[BARE]
    found = f"names {names[0]}, whose task is not known" if names else "names no architectures"
    raise UsageError(f"{CONFIG} {found}", hint=f"--task {', '.join(TASKS)}")


def _classes(table: Any) -> set[str]:
    """The names of classes in a table, whose rows hold one or several."""
    rows = ([row] if isinstance(row, str) else row for row in table.values())
    return {name for row in rows for name in row}


def load(checkpoint: Checkpoint, task: Task, attention: str, *, trust_code: bool) -> Any:
    """The model in float32, ready to run.

    Args:
        checkpoint: see `checkpoint.read`.
        task: says which head it has.
        attention: `sdpa` or `eager`.
        trust_code: whether code of the checkpoint's own may run.

    Raises:
        NotImplementedError: the model has no attention of that kind.
        UnsupportedModel: this release of Transformers does not know the architecture.
        InvalidModel: weights and configuration do not belong together.
    """
    config = configuration(checkpoint, trust_code=trust_code)
    loader = getattr(transformers, task.loader)
    if hasattr(config, "num_local_experts") or hasattr(config, "num_experts"):
        config._experts_implementation = EXPERTS
    try:
        model, told = loader.from_pretrained(
            checkpoint.folder, config=config, dtype=torch.float32, attn_implementation=attention,
            use_safetensors=not checkpoint.pickled, trust_remote_code=trust_code,
            local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True,
        )  # fmt: skip
    except (ValueError, KeyError) as error:
        if "attention implementation" in str(error):  # another way may do
            raise NotImplementedError(f"it has no {attention} attention") from None
        if type(config) not in loader._model_mapping:
            raise UnsupportedModel(
                f"a {config.model_type} model is not for {task.name}", hint="another --task"
            ) from None
        raise InvalidModel(f"its model cannot be made: {first_line(error)}") from None
    except Exception as error:  # broken files fail in the ways of several libraries
        raise InvalidModel(f"its weights cannot be loaded: {first_line(error)}") from None
    _hold_to(told, set(model.state_dict()), task)
    return model.eval().requires_grad_(False)


def configuration(checkpoint: Checkpoint, *, trust_code: bool) -> Any:
    """The configuration as an object.

    Raises:
        UnsupportedModel, InvalidModel: it is not known, or makes no sense.
    """
    kind = checkpoint.config["model_type"]
    try:
        return transformers.AutoConfig.from_pretrained(
            checkpoint.folder, trust_remote_code=trust_code, local_files_only=True
        )
    except (ValueError, KeyError) as error:
        if kind not in transformers.CONFIG_MAPPING and not checkpoint.own_code:
            raise UnsupportedModel(
                f"architecture {kind} is not known to Transformers {transformers.__version__}",
                hint="another release of it, or an .onnx file",
            ) from None
        raise InvalidModel(f"{CONFIG} makes no sense: {first_line(error)}") from None
    except Exception as error:  # values of wrong types fail in as many ways
        raise InvalidModel(f"{CONFIG} makes no sense: {first_line(error)}") from None


def _hold_to(told: dict[str, Any], weights: set[str], task: Task) -> None:
    """Raise where weights were made up, or left out that the model should have."""
    if wrong := sorted(told["mismatched_keys"]):
        name, stored, made = wrong[0]
        raise InvalidModel(
            f"weights and {CONFIG} do not belong together: {len(wrong)} have other shapes",
            place=f"{name}: {list(stored)}, not {list(made)}",
        )
    missing, surplus = sorted(told["missing_keys"]), sorted(told["unexpected_keys"])
    if task.name == BARE:  # hidden states do not depend on the pooler, which few checkpoints keep
        missing = [name for name in missing if not name.startswith(POOLER)]
    if missing:
        raise InvalidModel(
            f"the checkpoint lacks {len(missing)} weights of a model for {task.name}",
            place=missing[0],
            hint="--task feature-extraction, if it was saved without a head",
        )
    known = {NUMBER.sub(".*.", name) for name in weights}
    if layers := [name for name in surplus if _alike(NUMBER.sub(".*.", name), known)]:
        raise InvalidModel(
            f"the checkpoint has {len(layers)} weights of layers that {CONFIG} does not have",
            place=layers[0],
        )


def _alike(name: str, known: set[str]) -> bool:
    """Whether weights of that name are known; a model with a head has one more prefix."""
    return name in known or name.partition(".")[2] in known

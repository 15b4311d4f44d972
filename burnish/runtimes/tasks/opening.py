"""Opening an artifact for its task."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from burnish.optimizer.errors import UnsupportedModel, UsageError, about
from burnish.runtimes.providers import PROVIDERS
from burnish.runtimes.tasks import folder as folders
from burnish.runtimes.tasks.classes import TextClassification
from burnish.runtimes.tasks.entities import TokenClassification
from burnish.runtimes.tasks.folder import MODEL, Folder
from burnish.runtimes.tasks.likelihood import CausalLikelihood
from burnish.runtimes.tasks.masks import FillMask
from burnish.runtimes.tasks.pictures import (
    PIXELS,
    ImageClassification,
    ZeroShotImageClassification,
)
from burnish.runtimes.tasks.ports import Opened
from burnish.runtimes.tasks.questions import QuestionAnswering
from burnish.runtimes.tasks.vectors import FeatureExtraction

TASKS = {
    kind.name: kind
    for kind in (
        TextClassification,
        TokenClassification,
        QuestionAnswering,
        FillMask,
        FeatureExtraction,
        ImageClassification,
        ZeroShotImageClassification,
    )
}
"""Tasks that are answered here, by name."""

GENERATED = ("text-generation", "text2text-generation", "automatic-speech-recognition")
"""Tasks whose answer is written token by token."""

HINT = "burnish.load on its .onnx file, for arrays"


def open_task(
    path: Path,
    *,
    provider: str = "cpu",
    threads: int = 0,
    task: str | None = None,
    tokenizer: Path | None = None,
    beside: Path | None = None,
    losses: bool = False,
) -> Any:
    """The object that answers for an artifact; see the classes in `TASKS`.

    Args:
        path: a folder with a manifest, or an .onnx file beside its tokenizer and configuration.
        provider: a row of `runtimes.providers`.
        threads: 0 for the runtime's own choice.
        task: the hub's name of what the model is for; None for what the manifest or its ports
            say.
        tokenizer: `tokenizer.json` for texts; None for the one beside the model.
        beside: folder with what belongs to an .onnx file, where that is another than its own.
        losses: whether a decoder is asked for the losses of texts, not for texts.

    Raises:
        BurnishError: it cannot be opened, or no answers are made for its task.
    """
    if provider not in PROVIDERS:
        raise UsageError(f"provider {provider} is not known", hint=", ".join(PROVIDERS))
    with about(path):
        folder = folders.read(path, tokenizer=tokenizer, beside=beside)
        asked = task or told_task(folder)
        if asked in GENERATED and (MODEL not in folder.models or not losses):
            return _generator(folder, provider, threads)
        if MODEL not in folder.models or (asked and asked not in (*TASKS, *GENERATED)):
            raise UnsupportedModel(f"no answers are made for the task {asked}", hint=HINT)
        session = PROVIDERS[provider].open(folder.models[MODEL], provider=provider, threads=threads)
        try:
            opened = Opened(session, provider)
            name = asked or task_of(opened, folder.labels)
            if name == CausalLikelihood.name and losses:
                return CausalLikelihood(folder, opened)
            if name in TASKS:
                return TASKS[name](folder, opened)
        except BaseException:
            session.close()
            raise
        session.close()
        if name in GENERATED and not losses:
            return _generator(folder, provider, threads)
        raise UnsupportedModel(f"no answers are made for the task {name}", hint=HINT)


def _generator(folder: Folder, provider: str, threads: int) -> Any:
    path = folder.models.get(MODEL)
    if path is not None and path != folder.path / "model.onnx":
        raise UsageError("text is written from an artifact's folder", hint=f"{folder.path}")
    # Only where it is needed: it is the larger part.
    generate: Any = import_module("burnish.runtimes.generate")
    return generate.open_generator(folder.path, provider=provider, threads=threads)


def told_task(folder: Folder) -> str:
    """The task that the manifest names; empty where there is none."""
    told = folder.manifest.get("task")
    return told if isinstance(told, str) else ""


def task_of(opened: Opened, labels: Sequence[str]) -> str:
    """The task of a model that no manifest tells, by its ports.

    Raises:
        UsageError: they are of no known kind.
    """
    inputs, outputs = set(opened.inputs), opened.outputs
    axes = {port.name: getattr(port, "shape", None) or [] for port in opened.session.get_outputs()}
    if {"start_logits", "end_logits"} <= set(outputs):
        return QuestionAnswering.name
    if "logits_per_image" in outputs:
        return ZeroShotImageClassification.name
    if any(name.startswith("past_key_values") for name in inputs):
        return GENERATED[0]
    if PIXELS in inputs and "logits" in outputs:
        return ImageClassification.name
    if "logits" in outputs and len(axes["logits"]) == 2:
        return TextClassification.name
    if "logits" in outputs and len(axes["logits"]) == 3:
        last = axes["logits"][2]
        return TokenClassification.name if last == len(labels) else FillMask.name
    if outputs and outputs[0] in ("last_hidden_state", "sentence_embedding", "token_embeddings"):
        return FeatureExtraction.name
    raise UsageError("its task is not told by its ports", hint=f"--task {', '.join(TASKS)}")

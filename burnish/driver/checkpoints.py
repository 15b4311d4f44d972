"""The main job on a checkpoint: exported, each graph compiled, written as an artifact folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from burnish import __version__
from burnish.driver import vocabulary
from burnish.driver.request import Request, validate
from burnish.driver.result import Result
from burnish.optimizer import artifact
from burnish.optimizer.digests import digest_file
from burnish.optimizer.errors import UsageError
from burnish.optimizer.frontend import hub
from burnish.optimizer.saving import store_once

Compile = Callable[[Request], Result]
Work = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Does a job, by `module:function` of the driver, in a sandboxed child."""

DECODER = "decoder"
"""The graph of a pair that reads what the encoder gives."""

DECODER_SHAPE = {"kept": 1}
"""Decoders are timed as they are used: with the logits of the last token."""


def is_checkpoint(model: str) -> bool:
    """Whether a name stands for a checkpoint: a folder, or what may be a hub id."""
    path = Path(model)
    try:
        return path.is_dir() or (not path.exists() and hub.is_id(model))
    except (OSError, ValueError):
        return False


def folder_for(request: Request) -> Path:
    """Where the artifact goes: beside a folder, or in the current one for a hub id."""
    if request.output:
        return Path(request.output)
    kind = request.precision or ("auto" if request.auto_precision else "opt")
    source = Path(request.model)
    if source.is_dir():
        source = source.absolute()
        return source.with_name(f"{source.name}.{kind}")
    return Path(f"{source.name}.{kind}")


def compiled(request: Request, work: Work, compile_one: Compile) -> Result:
    """Export, compile every graph, and write the folder; nothing is left where a step fails.

    Raises:
        BurnishError: see the tree in `optimizer.errors`.
    """
    if artifact.is_folder(Path(request.model)):
        graphs = ", ".join(sorted(str(file) for file in Path(request.model).glob("*.onnx")))
        raise UsageError("an artifact already, not a checkpoint", hint=graphs)
    target = folder_for(request)
    if not target.parent.is_dir():
        raise UsageError(f"folder {target.parent} does not exist", hint="creating it")
    artifact.admit_folder(target, request.model)
    with artifact.staging(target) as staging:
        validate(replace(request, model=str(staging / "x.onnx"), output=str(staging / "y.onnx")))
        exported, made = staging / "exported", staging / target.name
        for folder in (exported, made):
            folder.mkdir()
        facts = work("exporting:export_checkpoint", _order(request, exported))
        report: dict[str, Any] = {"schema": 1, "export": facts}
        report |= _graphs(request, facts, (exported, made), work, compile_one)
        for part in report["parts"].values():
            part["output"]["path"] = str(target / Path(part["output"]["path"]).name)
        report["output"] = {"path": str(target), "written": not request.dry_run}
        if not request.dry_run:
            files = [made / f"{name}.onnx" for name in facts["parts"]]
            shared = store_once(files, "weights") if len(files) > 1 else 0
            report["output"] |= {"shared_bytes": shared, "files": _manifest(made, facts)}
            artifact.publish_folder(made, target)
    return Result(report, None if request.dry_run else target)


def _graphs(
    request: Request,
    facts: dict[str, Any],
    folders: tuple[Path, Path],
    work: Work,
    compile_one: Compile,
) -> dict[str, Any]:
    """Compile what was exported into the other folder, with the files that belong to it."""
    exported, made = folders
    feeds = None
    if request.data and DECODER in facts["parts"]:
        feeds = _read_by_encoder(request.data, exported, work)
    for name in facts["parts"]:
        for file in exported.glob("*.json*"):
            shutil.copyfile(file, exported / name / file.name)

    def compile_all(wanted: Request) -> dict[str, Any]:
        requests = {name: _part(wanted, name, exported, made, facts) for name in facts["parts"]}
        if feeds is not None:
            requests[DECODER] = replace(requests[DECODER], data=feeds)
        reports = {name: compile_one(part).report for name, part in requests.items()}
        for name, report in reports.items():
            report["input"]["path"] = f"{request.model} ({name})"
        return reports

    wanted, trimmed = request, None
    if vocabulary.is_asked(request):
        wanted, trimmed = vocabulary.prepared(
            request, exported, made.parent, lambda order: work("vocabulary:choose", order)
        )
    parts = compile_all(wanted)
    for file in (*exported.glob("*.json"), *exported.glob("*.jinja")):
        shutil.copyfile(file, made / file.name)
    if trimmed is None:
        return {"parts": parts}
    trimmed = vocabulary.told(trimmed, list(parts.values()))
    if trimmed["cut"]:
        trimmed["tokenizer"] = vocabulary.put_into(wanted, made)
    elif wanted.vocabulary:  # the graphs have to agree on what an id means
        parts = compile_all(vocabulary.without(request))
    return {"parts": parts, "vocabulary": trimmed}


def _order(request: Request, folder: Path) -> dict[str, Any]:
    """What the exporting child is told."""
    return {
        "checkpoint": request.model,
        "task": request.task,
        "allow_pickle": request.allow_pickle,
        "trust_code": request.trust_remote_code,
        "folder": str(folder),
    }


def _read_by_encoder(data: str, exported: Path, work: Work) -> str:
    """A folder of feeds for a decoder, whose inputs are no text."""
    folder = exported / "decoder-feeds"
    folder.mkdir()
    order = {"data": data, "exported": str(exported), "folder": str(folder)}
    work("pairs:feeds_of_decoder", order)
    return str(folder)


def _part(
    request: Request, name: str, exported: Path, made: Path, facts: dict[str, Any]
) -> Request:
    """The request that compiles one graph."""
    tokenizer = exported / "tokenizer.json"
    shape = {**DECODER_SHAPE, **request.shape} if facts["selects"] else request.shape
    return replace(
        request,
        model=str(exported / name / f"{name}.onnx"),
        output=str(made / f"{name}.onnx"),
        shape=shape,
        json=None,
        html=None,
        tokenizer=request.tokenizer or (str(tokenizer) if tokenizer.exists() else None),
    )


def _manifest(folder: Path, facts: dict[str, Any]) -> list[str]:
    """Write the manifest, last; the names of all files."""
    files = sorted(path.name for path in folder.iterdir())
    content: dict[str, Any] = {
        "burnish": __version__,
        "schema": 1,
        "task": facts["task"],
        "models": {name: f"{name}.onnx" for name in facts["parts"]},
        **{key: facts[key] for key in ("labels", "pooling") if key in facts},
        "export": {key: facts[key] for key in ("way", "versions", "model_type")},
        "sha256": {name: digest_file(folder / name) for name in files},
    }
    (folder / artifact.MANIFEST).write_text(json.dumps(content, indent=2) + "\n")
    return [*files, artifact.MANIFEST]

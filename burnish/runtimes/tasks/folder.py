"""What lies beside a model and says what it is for: manifest, configuration, tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.optimizer.artifact import MANIFEST, companion
from burnish.optimizer.configurations import labels_of, object_in
from burnish.optimizer.errors import InvalidModel, StorageError, UnsafeInput, UsageError

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
PREPROCESSOR = "preprocessor_config.json"
SENTENCES = "sentence_bert_config.json"
"""Where sentence-transformers keeps the length that texts are cut to."""

MODEL = "model"
"""The graph of an artifact that has one."""


@dataclass(frozen=True)
class Folder:
    """An artifact: its files, and what they say.

    Attributes:
        path: the folder.
        models: its graphs by name.
        manifest, config: contents of `manifest.json` and `config.json`; empty where there is none.
        tokenizer: the file for texts, which need not be there.
    """

    path: Path
    models: dict[str, Path]
    manifest: dict[str, Any]
    config: dict[str, Any]
    tokenizer: Path

    def settings(self, name: str) -> dict[str, Any]:
        """The content of another file; empty where it is not there."""
        return object_in(self.path / name)

    @property
    def labels(self) -> list[str]:
        """Names of classes by number, as far as they are told."""
        told = self.manifest.get("labels")
        if isinstance(told, list):
            return [str(name) for name in told]
        return labels_of(self.config)

    @property
    def pooling(self) -> dict[str, Any]:
        """How the vectors of tokens become one, as far as it is told."""
        told = self.manifest.get("pooling")
        return told if isinstance(told, dict) else {}


def read(path: Path, *, tokenizer: Path | None = None, beside: Path | None = None) -> Folder:
    """An artifact folder, or an .onnx file with what lies beside it (or in another folder).

    Raises:
        StorageError: it is not there. UsageError: a folder without a manifest and `model.onnx`.
        InvalidModel: the manifest makes no sense. UnsafeInput: it names files outside.
    """
    if not path.exists():
        raise StorageError("it does not exist")
    folder = path if path.is_dir() else beside or path.parent
    manifest = object_in(folder / MANIFEST)
    models = _models(folder, manifest)
    if path.is_file():
        if not any(model.name == path.name for model in models.values()):
            manifest = {}
        models = {MODEL: path}
    elif manifest and not models:
        raise InvalidModel(f"{MANIFEST} names no models")
    elif not models:
        raise UsageError(f"a folder without {MANIFEST}: it is no artifact", hint=_hint(folder))
    model = folder / (path.name if path.is_file() else "model.onnx")
    config = object_in(companion(model, CONFIG))
    return Folder(folder, models, manifest, config, tokenizer or companion(model, TOKENIZER))


def _models(folder: Path, manifest: dict[str, Any]) -> dict[str, Path]:
    named = manifest.get("models", {})
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise InvalidModel(f"{MANIFEST} names no models")
    for name in named.values():
        if Path(name).name != name:
            raise UnsafeInput("a file outside of the artifact", place=f"{MANIFEST}: {name}")
    return {key: folder / name for key, name in named.items()}


def _hint(folder: Path) -> str:
    found = sorted(folder.glob("*.onnx"))
    return f"the file {found[0]}" if found else "optimize CHECKPOINT -o FOLDER"

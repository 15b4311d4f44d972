"""Configuration files: JSON objects beside a model, and what several readers want of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.optimizer.errors import InvalidModel, StorageError, reason_of


def object_in(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is no such file.

    Raises:
        StorageError, InvalidModel: it cannot be read, or holds none.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageError(f"{path.name} cannot be read: {reason_of(error)}") from None
    return object_of(content, path.name)


def object_of(content: bytes, name: str) -> dict[str, Any]:
    """The object that the content of a file of that name is.

    Raises:
        InvalidModel: it is none.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise InvalidModel(f"{name} is not JSON") from None
    if not isinstance(found, dict):
        raise InvalidModel(f"{name} holds no JSON object")
    return found


def told_in(path: Path) -> dict[str, Any]:
    """The object in a file that nothing depends on: empty where it is not there, or makes none."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def labels_of(config: Mapping[str, Any]) -> list[str]:
    """Names of classes by number, as `config.json` tells them; none where it does not."""
    names = config.get("id2label")
    if not isinstance(names, dict):
        return []
    try:
        return [str(names[key]) for key in sorted(names, key=int)]
    except ValueError:
        return []

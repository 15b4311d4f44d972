"""Who is in a zoo: a folder, a list of paths, or a YAML file with options by pattern.

    models: [encoders/*.onnx, checkpoints/minilm]   # default: whatever lies below the folder
    options: {int8: true}                           # of all
    patterns:                                       # of those whose name matches; later ones win
      "encoders/large-*": {max-drop: 0.02}

Options have the names and values of recipes (`driver.recipe_options`), and `recipe` names one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from burnish.driver import recipes
from burnish.driver.recipe_options import BY_PRECISION, checked
from burnish.optimizer import artifact, yaml_files
from burnish.optimizer.errors import StorageError, UsageError, about, reason_of
from burnish.optimizer.frontend import checkpoint

KEYS = ("models", "options", "patterns", "description")
"""What a zoo in YAML may say."""

RECIPE = "recipe"
"""The key among options that stands for a recipe's."""

WILD = frozenset("*?[")

WEIGHTS = (
    checkpoint.SAFE,
    checkpoint.SAFE + checkpoint.INDEX,
    checkpoint.PICKLED,
    checkpoint.PICKLED + checkpoint.INDEX,
    *checkpoint.ELSEWHERE,
)
"""Files one of which, beside a configuration, makes a folder a checkpoint."""


@dataclass(frozen=True)
class Member:
    """A model of a zoo.

    Attributes:
        name: its path below the zoo's folder, or what a path elsewhere ends with.
        path: an .onnx file or a checkpoint's folder; what a list names need not be there.
        options: by their names at the prompt.
    """

    name: str
    path: Path
    options: Mapping[str, Any] = field(default_factory=dict)


def members(source: Path, output: Path) -> list[Member]:
    """The members of a zoo, in the order of their names, or of the list.

    Args:
        source: a folder, a .yaml or .yml file, or a list with a path a line (`#` begins a comment).
        output: the folder of the results, which is not looked into.

    Raises:
        UsageError: there are none, or what is given makes no sense.
        StorageError: the source cannot be read.
    """
    if source.is_dir():
        found = [_member(source, path) for path in _below(source, output)]
    elif source.suffix in recipes.SUFFIXES:
        found = _of_yaml(source, output)
    elif source.suffix == ".onnx":
        raise UsageError("one model is no zoo", hint=f"optimize {source}")
    else:
        root = source.parent
        paths = (path for line in _lines(source) for path in _named(root, line, output))
        found = [_member(root, path) for path in paths]
    unique: dict[Path, Member] = {}
    for member in found:
        unique.setdefault(member.path, member)
    if not unique:
        raise UsageError("there is no model in it", hint="a folder with .onnx files")
    return [*unique.values()]


def _member(root: Path, path: Path) -> Member:
    try:
        name = path.relative_to(root).as_posix()
    except ValueError:
        name = ".."
    # The zoo's own folder may be the checkpoint.
    inside = ".." not in Path(name).parts and name != "."
    return Member(name if inside else path.absolute().name, path)


def _lines(source: Path) -> list[str]:
    """The lines of a list that name something."""
    try:
        text = source.read_text("utf-8")
    except OSError as error:
        raise StorageError(reason_of(error)) from None
    except UnicodeError:
        raise UsageError("it is no list of models: not a text in UTF-8") from None
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _named(root: Path, entry: str, output: Path) -> list[Path]:
    """The models that an entry of a list stands for: a path as it is, a pattern as far as it goes.

    Raises:
        UsageError: a pattern that nothing matches.
    """
    path = root / entry
    if not WILD & {*entry} or path.exists():
        plain = path.is_dir() and not _is_checkpoint(path)
        return [*_below(path, output)] or [path] if plain else [path]
    if Path(entry).is_absolute():
        raise UsageError(f"the pattern {entry} is absolute", hint="one below the list's folder")
    found: list[Path] = []
    for match in sorted(root.glob(entry)):
        if match.is_dir():
            found += _below(match, output)
        elif match.suffix == ".onnx":
            found.append(match)
    if not found:
        raise UsageError(f"nothing matches {entry}")
    return found


def _below(folder: Path, output: Path) -> Iterator[Path]:
    """Checkpoints and .onnx files below a folder; links to folders are not followed."""
    avoided = output.resolve()
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (here / name).resolve() != avoided
        )
        if artifact.is_folder(here):
            folders.clear()
        elif _is_checkpoint(here):
            folders.clear()
            yield here
        else:
            names = (name for name in sorted(files) if not name.startswith("."))
            yield from (here / name for name in names if name.endswith(".onnx"))


def _is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a configuration with weights, or with nothing else to be a model."""
    if not (folder / checkpoint.CONFIG).is_file():
        return False
    if any((folder / name).exists() for name in WEIGHTS):
        return True
    # That it has no weights is said of it; an .onnx file below it speaks for itself.
    return next(folder.rglob("*.onnx"), None) is None


def _of_yaml(source: Path, output: Path) -> list[Member]:
    content, root = yaml_files.read(source), source.parent
    with about(source):
        _admit(content)
        entries = content.get("models")
        if entries is None:
            paths = [*_below(root, output)]
        else:
            paths = [path for entry in entries for path in _named(root, entry, output)]
        common = _options(content.get("options"), root, "options")
        patterns = {
            pattern: _options(values, root, f"patterns: {pattern}")
            for pattern, values in (content.get("patterns") or {}).items()
        }
        found = [_with(_member(root, path), common, patterns) for path in paths]
        for pattern in patterns:
            if not any(fnmatchcase(member.name, pattern) for member in found):
                raise UsageError(f"the pattern {pattern} matches no model")
    return found


def _admit(content: Any) -> None:
    """Raise where a zoo in YAML is none."""
    if not isinstance(content, dict):
        raise UsageError("a zoo is a mapping", hint="a line as `models: [encoders/*.onnx]`")
    for key in content:
        if key not in KEYS:
            nearest = get_close_matches(key, KEYS, 1, 0.5)
            raise UsageError(f"there is no key {key}", hint=nearest[0] if nearest else KEYS[0])
    models = content.get("models", [])
    if not isinstance(models, list) or not all(isinstance(item, str) and item for item in models):
        raise UsageError("models is a list of paths and patterns")
    if not isinstance(content.get("patterns") or {}, dict):
        raise UsageError("patterns is options by pattern")


def _options(values: Any, root: Path, where: str) -> dict[str, Any]:
    """Options by their names at the prompt; a recipe comes before what stands beside it."""
    if not isinstance(values or {}, dict):
        raise UsageError("options go by name", place=where, hint="a line as `int8: true`")
    own = dict(values or {})
    named = own.pop(RECIPE, None)
    if named is not None and not isinstance(named, str):
        raise UsageError("recipe is a name or a path", place=where)
    try:
        found = checked(own, root)
        if named is None:
            return found
        local = root / named
        recipe = recipes.named(str(local) if local.is_file() else named)
    except UsageError as error:
        error.place = error.place or where
        raise
    return merged(recipe.options, found)


def _with(
    member: Member, common: Mapping[str, Any], patterns: Mapping[str, Mapping[str, Any]]
) -> Member:
    """A member with the options that are its own."""
    options = dict(common)
    for pattern, values in patterns.items():
        if fnmatchcase(member.name, pattern):
            options = merged(options, values)
    return Member(member.name, member.path, options)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Options of which the second ones win; a precision takes the place of another one."""
    displaced = BY_PRECISION if recipes.PRECISION & {*over} else ()
    return {name: value for name, value in base.items() if name not in displaced} | dict(over)

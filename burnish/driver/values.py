"""The values that texts of options stand for, at the prompt and in recipes."""

from __future__ import annotations

from burnish.driver.request import PRECISIONS
from burnish.optimizer.errors import UsageError


def shape_of(text: str | None) -> dict[str, int]:
    """The value of `--shape`: sizes by name."""
    sizes = {}
    for part in (text or "").split(","):
        name, _, size = part.partition("=")
        if not part:
            continue
        if not size.isdecimal() or int(size) < 1:
            raise UsageError(
                f"--shape {part} is not NAME=SIZE", hint="--shape batch=8,sequence=128"
            )
        sizes[name.strip()] = int(size)
    return sizes


def precision_of(name: str | None, **flags: bool) -> dict[str, bool]:
    """The value of `--precision` beside those of `--int8` and so on, as fields of the request."""
    chosen = dict.fromkeys(PRECISIONS, False) | flags | {"auto_precision": name == "auto"}
    if name is not None and name != "auto":
        field = name.replace("-", "_")
        if field not in chosen or "_" in name:
            known = ", ".join([*(item.replace("_", "-") for item in PRECISIONS), "or auto"])
            raise UsageError(f"--precision {name} is not known", hint=known)
        chosen[field] = True
    return chosen


def languages_of(text: str | None) -> tuple[str, ...]:
    """The value of `--languages`, each once."""
    names = (part.strip() for part in (text or "").split(","))
    return tuple(dict.fromkeys(filter(None, names)))


def layers_of(text: str | None) -> tuple[int, ...]:
    """The value of `--layers`: numbers, and ranges of such."""
    try:
        parts = [part.partition("-") for part in (text or "").split(",") if part]
        pairs = [(int(first), int(last or first)) for first, _, last in parts]
    except ValueError:
        pairs = [(1, 0)]
    if any(first > last for first, last in pairs):
        raise UsageError(f"--layers {text} is no list of numbers", hint="--layers 0-3,7")
    return tuple(sorted({number for first, last in pairs for number in range(first, last + 1)}))


def release_of(text: str | None) -> str | None:
    """The value of `--min-ort`: two numbers, and more that do not matter."""
    if text is None or all(part.isdecimal() for part in [*text.split("."), ""][:2]):
        return text
    raise UsageError(f"--min-ort {text} is not a release", hint="--min-ort 1.17")


def bytes_of(text: str | None) -> int | None:
    """The value of `--memory-limit` in bytes."""
    if text is None:
        return None
    units = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "b": 1.0}
    lower = text.strip().lower()
    unit = next((name for name in units if lower.endswith(name)), "")
    try:
        size = float(lower.removesuffix(unit)) * units.get(unit, 1.0)
    except ValueError:
        size = 0.0
    if not 1e6 <= size < 1e18:
        raise UsageError(f"--memory-limit {text} is not a size", hint="--memory-limit 1.5GB")
    return int(size)

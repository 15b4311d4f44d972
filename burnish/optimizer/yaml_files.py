"""YAML that people write: nothing in it is lost silently, and nothing in it runs.

Keys that come twice are errors (libraries of the format let the last one win), and so are aliases,
by which a short file can stand for a huge one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from burnish.optimizer.errors import StorageError, UsageError, about, reason_of

LONGEST = 1 << 20
"""Bytes of a file that are read."""


class _Refused(yaml.MarkedYAMLError):  # type: ignore[misc]
    """What the format allows, and would be lost or worse."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Makes plain values: texts, numbers, truth values, lists and mappings by text."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise _Refused(problem="aliases are not read", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(name := self.construct_object(key), str):
                raise _Refused(problem=f"the key {name} is no text", problem_mark=key.start_mark)
            if name in seen:
                raise _Refused(problem=f"{name} is there twice", problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def read(path: Path) -> Any:
    """What a file holds, as plain values; None where it is empty.

    Raises:
        StorageError: it cannot be read.
        UsageError: it is no YAML, or holds what would be lost.
    """
    with about(path):
        try:
            with path.open("rb") as stream:
                content = stream.read(LONGEST + 1)
        except OSError as error:
            raise StorageError(f"it cannot be read: {reason_of(error)}") from None
        if len(content) > LONGEST:
            raise UsageError(f"it is longer than {LONGEST} bytes")
        return parsed(content)


def parsed(content: str | bytes) -> Any:
    """The same of a text."""
    try:
        return yaml.load(content, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}" if mark else ""
        told = "" if isinstance(error, _Refused) else "it is no YAML: "
        raise UsageError(f"{told}{error.problem or error.context}", place=where) from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise UsageError(f"it is no YAML: {str(error).splitlines()[0]}") from None
    except ValueError as error:  # dates that no calendar has
        raise UsageError(f"it is no YAML: {error}") from None
    except RecursionError:
        raise UsageError("it is no YAML: it is nested too deeply") from None


def written(values: Any, heading: str = "") -> str:
    """Plain values as YAML, below a comment."""
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    return f"# {heading}\n{text}" if heading else text

"""Conversations as the text that a model was trained on: its chat template, applied.

A template is a program of the checkpoint's (Jinja). It runs in the sandboxed environment of its
library, which gives it no attribute of Python's own and lets it change nothing.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.optimizer.configurations import told_in
from burnish.optimizer.errors import InvalidModel, UsageError, first_line

TEMPLATE, CONFIG = "chat_template.jinja", "tokenizer_config.json"

Message = Mapping[str, str]
"""`role` (system, user, assistant) and `content`."""


class Chat:
    """The template of an artifact folder.

    Raises:
        UsageError: it has none, or what runs it is not installed.
        InvalidModel: it makes no sense.
    """

    def __init__(self, folder: Path) -> None:
        config = told_in(folder / CONFIG)
        self._tokens = {
            name: _text(config[name]) for name in ("bos_token", "eos_token") if config.get(name)
        }
        source = _source(folder / TEMPLATE, config)
        if source is None:
            raise UsageError("the model comes with no chat template", hint="a text instead")
        try:
            from jinja2.exceptions import TemplateError
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError:
            told = "chat templates need jinja2"
            raise UsageError(told, hint="pip install 'burnish[chat]'") from None
        self._error = TemplateError
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals |= {"raise_exception": self._refuse, "strftime_now": _now}
        environment.filters["tojson"] = lambda value, **options: json.dumps(
            value, ensure_ascii=False, **options
        )
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise InvalidModel(f"its chat template makes no sense: {first_line(error)}") from None

    def prompt(self, messages: Sequence[Message], *, answer: bool = True) -> str:
        """The text of a conversation, up to where the model's next message begins.

        Args:
            messages: in order.
            answer: whether it ends with what an answer begins with.

        Raises:
            UsageError: the template refuses them.
        """
        try:
            return self._template.render(
                messages=[dict(item) for item in messages],
                add_generation_prompt=answer,
                **self._tokens,
            )
        except UsageError:
            raise
        except Exception as error:  # a program fails in ways of its own
            raise UsageError(f"the chat template refuses it: {first_line(error)}") from None

    def _refuse(self, reason: str) -> None:
        raise UsageError(f"the chat template refuses it: {reason}")


def _now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


def _text(token: Any) -> str:
    """A special token, which may be an object."""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token)


def _source(path: Path, config: Mapping[str, Any]) -> str | None:
    """The template's text: a file of its own, or a field of the tokenizer's configuration."""
    if path.exists():
        return path.read_text("utf-8")
    found = config.get("chat_template")
    if isinstance(found, list):  # several, by name
        named = {str(item.get("name")): item.get("template") for item in found}
        found = named.get("default") or next(iter(named.values()), None)
    return found if isinstance(found, str) else None

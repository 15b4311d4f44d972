"""Conversations by chat templates, as Transformers renders them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers as hf
from generating import tokenizer

from burnish.optimizer.errors import InvalidModel, UsageError
from burnish.runtimes.generate.chat import Chat

CHATML = """{% for message in messages %}
    {% if loop.first and message.role != 'system' %}
<|im_start|>system
You help.<|im_end|>
    {% endif %}
<|im_start|>{{ message.role }}
{{ message.content | trim }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}"""
TURNS = """{{ bos_token }}{% for message in messages %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('roles have to alternate') }}
{%- endif %}
{%- if message.role == 'user' %}[INST] {{ message.content }} [/INST]
{%- else %} {{ message.content }}{{ eos_token }}{%- endif %}
{%- endfor %}"""
TOOLS = "{{ messages | tojson }}{% if tools %}tools{% endif %}{{ strftime_now('%Y') | length }}"

TALK = [
    {"role": "user", "content": " Grüße & <greetings>! "},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Bye."},
]


def folder_with(folder: Path, template: Any, file: bool = False) -> Path:
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>"}}
    if file:
        (folder / "chat_template.jinja").write_text(template)
    else:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("template", [CHATML, TURNS, TOOLS], ids=["chatml", "turns", "tools"])
@pytest.mark.parametrize("file", [False, True])
def test_templates_give_what_transformers_gives(template: str, file: bool, tmp_path: Path) -> None:
    theirs = hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(), bos_token="<s>", eos_token="</s>", chat_template=template
    )
    wanted = theirs.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
    assert Chat(folder_with(tmp_path, template, file)).prompt(TALK) == wanted


def test_the_default_of_several_templates_is_taken(tmp_path: Path) -> None:
    several = [{"name": "rag", "template": "no"}, {"name": "default", "template": "yes"}]
    assert Chat(folder_with(tmp_path, several)).prompt(TALK) == "yes"


def test_what_a_template_refuses_is_said(tmp_path: Path) -> None:
    chat = Chat(folder_with(tmp_path, TURNS))
    with pytest.raises(UsageError, match="roles have to alternate"):
        chat.prompt(TALK[1:])


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ no_such_function() }}",
    ],
)
def test_templates_reach_nothing_of_python(template: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the chat template refuses it"):
        Chat(folder_with(tmp_path, template)).prompt(TALK)


def test_folders_without_a_template_or_with_a_broken_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no chat template"):
        Chat(tmp_path)
    with pytest.raises(InvalidModel, match="makes no sense"):
        Chat(folder_with(tmp_path, "{% for"))

"""Artifact folders for tests: models that look their answers up, and exports of small ones."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from burnish.optimizer.frontend.exporters import TORCHSCRIPT, Way, export
from burnish.optimizer.frontend.parts import parts_of
from burnish.optimizer.frontend.samples import TRACED
from burnish.optimizer.frontend.tasks import TASKS

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

TEXTS = (
    "Marta Olsen left the harbour of Brenn on a grey morning.",
    "The mill at Tarvik was sold to the Nordlys company in spring.",
    "Nobody in the village knew who had painted the old boat.",
    "When the rain stopped, the children ran down to the river.",
    "A letter from Brenn arrived three weeks after the storm.",
)


def word_level(words: Sequence[str]) -> Tokenizer:
    """A tokenizer with a piece for each of these words and for punctuation, split as BERT does."""
    pieces = [*SPECIAL, *words, *".,!?()"]
    tokenizer = Tokenizer(
        models.WordLevel({piece: index for index, piece in enumerate(pieces)}, "[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return framed(tokenizer)


def framed(tokenizer: Tokenizer) -> Tokenizer:
    """With [CLS] before a text and [SEP] after it."""
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )  # fmt: skip
    return tokenizer


def word_pieces(size: int = 200) -> Tokenizer:
    """A small WordPiece tokenizer."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=SPECIAL)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return framed(tokenizer)


def at_spaces(words: Sequence[str]) -> Tokenizer:
    """As tokenizers of SentencePiece are seen: words end at spaces, pieces within them."""
    tokenizer = Tokenizer(
        models.WordLevel({piece: index for index, piece in enumerate([*SPECIAL, *words])}, "[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return framed(tokenizer)


def lookup(table: np.ndarray, *, output: str = "logits", mask: bool = True) -> onnx.ModelProto:
    """A model that gives each piece its row of a table, float32 [pieces, classes]."""
    rows = ["batch", "sequence"]
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, rows)]
    if mask:
        inputs.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, rows))
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, [*rows, table.shape[1]])
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], [output])],
        "lookup", inputs, [result],
        [numpy_helper.from_array(table.astype(np.float32), "table")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def summed(table: np.ndarray) -> onnx.ModelProto:
    """A model that adds up the rows of a table for the pieces that the mask shows."""
    model = lookup(table, output="rows")
    graph = model.graph
    for name, value in (("one", 1), ("two", 2)):
        graph.initializer.append(numpy_helper.from_array(np.array([value]), name))
    graph.node.extend([
        helper.make_node("Cast", ["attention_mask"], ["seen"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["seen", "two"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["shown"]),
        helper.make_node("ReduceSum", ["shown", "one"], ["logits"], keepdims=0),
    ])  # fmt: skip
    del graph.output[:]
    shape = ["batch", table.shape[1]]
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape))
    return model


def folder(
    path: Path,
    model: onnx.ModelProto | None,
    task: str,
    tokenizer: Tokenizer | None,
    *,
    config: dict[str, Any] | None = None,
    **manifest: Any,
) -> Path:
    """Write an artifact folder."""
    path.mkdir(parents=True, exist_ok=True)
    if model is not None:
        onnx.save(model, path / "model.onnx")
    if tokenizer is not None:
        tokenizer.save(str(path / "tokenizer.json"))
    (path / "config.json").write_text(json.dumps(config or {}))
    content = {"burnish": "0", "task": task, "models": {"model": "model.onnx"}, **manifest}
    (path / "manifest.json").write_text(json.dumps(content))
    return path


def exported(
    path: Path, model: Any, task: str, tokenizer: Tokenizer | None, **manifest: Any
) -> Path:
    """An artifact folder with a Transformers model, which TorchScript exports."""
    torch.manual_seed(0)
    for parameter in model.parameters():  # the usual ones answer the same to all inputs
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    folder(path, None, task, tokenizer, config=model.eval().config.to_dict(), **manifest)
    (part,) = parts_of(copy.deepcopy(model), TASKS[task])  # it is changed for the exporter
    way = Way(TORCHSCRIPT, "eager")
    export(part.module, part.make(TRACED), part.outputs, path / "model.onnx", way)
    return path


def answering(path: Path, limit: int) -> Path:
    """A model that finds from Ada to Byron."""
    tokenizer = word_level(["Ada", "Byron", "saw", "Rome", "who"])
    rows = np.zeros((tokenizer.get_vocab_size(), 2), np.float32)
    rows[tokenizer.token_to_id("Ada"), 0] = rows[tokenizer.token_to_id("Byron"), 1] = 5.0
    model = lookup(rows, output="both")
    graph = model.graph
    graph.node.append(helper.make_node("Split", ["both"], ["s", "e"], axis=2))
    graph.initializer.append(numpy_helper.from_array(np.array([2]), "last"))
    del graph.output[:]
    for source, name in (("s", "start_logits"), ("e", "end_logits")):
        graph.node.append(helper.make_node("Squeeze", [source, "last"], [name]))
        graph.output.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "sequence"])
        )
    folder(path, model, "question-answering", tokenizer)
    (path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": limit}))
    return path

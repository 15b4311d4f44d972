"""A SentencePiece BPE model as tokenizer.json.

The file is a protobuf message (`sentencepiece_model.proto`): field 1 is a piece, with its text (1),
score (2) and type (3: normal 1, unknown 2, control 3, user-defined 4, byte 6).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Fields = Iterator[tuple[int, int | bytes]]

UNKNOWN, CONTROL = 2, 3


def pieces(path: Path) -> list[tuple[str, float, int]]:
    """Text, score and type of each piece, by id."""
    found = []
    for number, content in _fields(path.read_bytes()):
        if number == 1 and isinstance(content, bytes):
            fields: dict[int, Any] = dict(_fields(content))
            score = struct.unpack("<f", fields[2])[0] if 2 in fields else 0.0
            found.append((fields[1].decode(), score, fields.get(3, 1)))
    return found


def tokenizer(path: Path) -> dict[str, Any]:
    """The model in the format of the library `tokenizers`, as Llama 2 uses it.

    Of two neighbours, SentencePiece merges those whose piece has the best score.
    """
    rows = pieces(path)
    ids = {text: index for index, (text, _, _) in enumerate(rows)}
    merges = []
    for text, score, _ in rows:
        for cut in range(1, len(text)):
            if text[:cut] in ids and text[cut:] in ids:
                merges.append((-score, ids[text[:cut]], ids[text[cut:]], [text[:cut], text[cut:]]))
    special = [index for index, (_, _, kind) in enumerate(rows) if kind in (UNKNOWN, CONTROL)]
    begin = rows[1][0]
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": rows[index][0], "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False, "special": True}
            for index in special
        ],
        "normalizer": {
            "type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, space]
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": begin, "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {begin: {"id": begin, "ids": [1], "tokens": [begin]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE", "dropout": None, "unk_token": rows[0][0],
            "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": True,
            "byte_fallback": True, "ignore_merges": False, "vocab": ids,
            "merges": [merge for *_, merge in sorted(merges, key=lambda item: item[:3])],
        },
    }  # fmt: skip


def _fields(message: bytes) -> Fields:
    """Numbers and contents of a message's fields."""
    place = 0
    while place < len(message):
        key, place = _number(message, place)
        kind = key & 7
        if kind == 0:
            content, place = _number(message, place)
            yield key >> 3, content
            continue
        if kind == 2:
            size, place = _number(message, place)
        else:
            size = {1: 8, 5: 4}[kind]
        yield key >> 3, message[place : place + size]
        place += size


def _number(message: bytes, place: int) -> tuple[int, int]:
    """A varint, and where it ends."""
    number = shift = 0
    while True:
        byte = message[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return number, place

"""A model file's bytes, as far as it takes to leave large weights where they lie.

A protobuf decoder copies every weight into memory, and an encoder does so again. In the encoding
(https://protobuf.dev/programming-guides/encoding/) a field is a tag, a length and that many bytes,
so that the data of an initializer can be stepped over, and put back, without a look at it:

    ModelProto.graph = 7  >  GraphProto.initializer = 5  >  TensorProto.raw_data = 9
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

Buffer = bytes | memoryview

GRAPH, INITIALIZER, RAW_DATA, DATA_LOCATION = 7, 5, 9, 14

LARGE = 1 << 16
"""Bytes of data from which an initializer is stepped over."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Place:
    """Where the data of an initializer lies in its file, in bytes."""

    offset: int
    length: int


@dataclass(frozen=True)
class _Field:
    """A field of a message: `start` to `end` with its tag, the value from `body` on."""

    number: int
    wire: int
    start: int
    body: int
    end: int


def mapped(path: Path) -> memoryview:
    """The bytes of a file that is not empty, read when they are looked at."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def split(content: Buffer) -> tuple[bytes, dict[int, Place]]:
    """A `ModelProto` without its large data, and where that lies by index of the initializer.

    Raises:
        ValueError: not a sequence of fields; a decoder will say what is wrong.
    """
    view = memoryview(content)
    model = list(_fields(view, 0, len(view)))
    if sum(field.number == GRAPH for field in model) != 1:
        # Several graphs are one whose fields follow each other: legal, and nobody writes it.
        return bytes(view), {}
    places: dict[int, Place] = {}
    pieces: list[Buffer] = []
    for field in model:
        if field.number == GRAPH and field.wire == _LENGTH:
            graph = b"".join(_without_data(view, field, places))
            pieces += [_header(GRAPH, len(graph)), graph]
        else:
            pieces.append(view[field.start : field.end])
    return b"".join(pieces), places


def _without_data(view: memoryview, graph: _Field, places: dict[int, Place]) -> Iterator[Buffer]:
    index = -1
    for field in _fields(view, graph.body, graph.end):
        if field.number == INITIALIZER and field.wire == _LENGTH:
            index += 1
            if field.end - field.body >= LARGE:
                parts = list(_fields(view, field.body, field.end))
                data = [part for part in parts if part.number == RAW_DATA]
                inside = all(part.number != DATA_LOCATION for part in parts)
                if len(data) == 1 and inside and data[0].end - data[0].body >= LARGE:
                    places[index] = Place(data[0].body, data[0].end - data[0].body)
                    rest = [view[part.start : part.end] for part in parts if part is not data[0]]
                    yield _header(INITIALIZER, sum(map(len, rest)))
                    yield from rest
                    continue
        yield view[field.start : field.end]


def join(light: bytes, data: Mapping[int, ir.TensorProtocol]) -> Iterator[Buffer]:
    """The inverse of `split`: the bytes of a whole `ModelProto`, one piece of data at a time.

    Args:
        light: a message whose initializers at the keys of `data` have no data.
        data: computed or read when it is due.
    """
    view = memoryview(light)
    for field in _fields(view, 0, len(view)):
        if field.number != GRAPH:
            yield view[field.start : field.end]
            continue
        parts = list(_parts(view, field, data))
        yield _header(GRAPH, sum(len(head) + len(body) + size for head, body, _, size in parts))
        for head, body, tensor, size in parts:
            yield head
            yield body
            if tensor is not None:
                content = memoryview(tensor.tobytes())
                assert len(content) == size
                yield content


def _parts(
    view: memoryview, graph: _Field, data: Mapping[int, ir.TensorProtocol]
) -> Iterator[tuple[bytes, Buffer, ir.TensorProtocol | None, int]]:
    """The fields of the graph: header where it is a new one, bytes, and the data that follows."""
    index = -1
    for part in _fields(view, graph.body, graph.end):
        index += part.number == INITIALIZER
        if part.number != INITIALIZER or index not in data:
            yield b"", view[part.start : part.end], None, 0
            continue
        size = data[index].nbytes
        body = bytes(view[part.body : part.end]) + _header(RAW_DATA, size)
        yield _header(INITIALIZER, len(body) + size), body, data[index], size


def _fields(view: memoryview, start: int, end: int) -> Iterator[_Field]:
    position = start
    while position < end:
        tag, body = _varint(view, position, end)
        wire = tag & 7
        if wire == _VARINT:
            _, stop = _varint(view, body, end)
        elif wire == _LENGTH:
            length, body = _varint(view, body, end)
            stop = body + length
        elif wire in (_FIXED32, _FIXED64):
            stop = body + (4 if wire == _FIXED32 else 8)
        else:
            raise ValueError("a group, which ONNX does not use")
        if stop > end or not tag >> 3:
            raise ValueError("a field without a number, or past its end")
        yield _Field(tag >> 3, wire, position, body, stop)
        position = stop


def _varint(view: memoryview, position: int, end: int) -> tuple[int, int]:
    """A number of 7 bits a byte, least first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            break
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number without an end")


def _header(number: int, length: int) -> bytes:
    """Tag and length of a field of bytes."""
    return _encoded(number << 3 | _LENGTH) + _encoded(length)


def _encoded(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)

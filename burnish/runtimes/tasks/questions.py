"""Answers to questions, as spans of a context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from burnish.optimizer.errors import InvalidModel, UsageError
from burnish.runtimes.arrays import Array
from burnish.runtimes.tasks.answers import Answer
from burnish.runtimes.tasks.folder import Folder
from burnish.runtimes.tasks.ports import Opened
from burnish.runtimes.tasks.task import Task
from burnish.runtimes.tasks.texts import Row, Texts, admit

STRIDE = 128
"""Pieces that neighbouring parts of a long context share."""

LONGEST = 30
"""Pieces of the longest answer."""

CONTEXT = 1
"""The number of a context in a pair of texts."""


@dataclass(frozen=True)
class Part:
    """One part of a context, as the model sees it.

    Attributes:
        starts, ends: logits of its pieces.
        none: the sum of both where no answer is; at the first piece.
        offsets: characters of each piece.
    """

    starts: Array
    ends: Array
    none: float
    offsets: list[tuple[int, int]]


class QuestionAnswering(Task):
    """Called on a question and its context, or on a list of questions and one of contexts."""

    name = "question-answering"

    def __init__(self, folder: Folder, opened: Opened) -> None:
        super().__init__(folder, opened)
        admit(opened)
        self.texts = Texts(folder, opened)
        self._outputs = ["start_logits", "end_logits"]
        if missing := [name for name in self._outputs if name not in opened.outputs]:
            raise InvalidModel(f"it has no output {missing[0]}: it is no model for {self.name}")

    @overload
    def __call__(
        self, question: str, context: str, *, longest: int = LONGEST, none: bool = False
    ) -> Answer: ...

    @overload
    def __call__(
        self,
        question: list[str],
        context: list[str],
        *,
        longest: int = LONGEST,
        none: bool = False,
    ) -> list[Answer]: ...

    def __call__(
        self,
        question: str | list[str],
        context: str | list[str],
        *,
        longest: int = LONGEST,
        none: bool = False,
    ) -> Answer | list[Answer]:
        """The best answers; contexts that are too long are read in parts, so that none is cut.

        Args:
            question: one, or several.
            context: as many.
            longest: pieces that an answer may have.
            none: whether there may be no answer (SQuAD 2.0), which is then an empty text.
        """
        if isinstance(question, str) != isinstance(context, str):
            raise UsageError("a question has a context, and a list of questions a list of them")
        questions = [question] if isinstance(question, str) else list(question)
        contexts = [context] if isinstance(context, str) else list(context)
        if len(questions) != len(contexts):
            raise UsageError(f"{len(questions)} questions have {len(contexts)} contexts")
        windows = [
            self.texts.windows(one, other, STRIDE)
            for one, other in zip(questions, contexts, strict=True)
        ]
        parts = iter(self._parts([window for row in windows for window in row]))
        found = [
            best([next(parts) for _ in row], text, longest, none)
            for row, text in zip(windows, contexts, strict=True)
        ]
        return found[0] if isinstance(question, str) else found

    def _parts(self, encodings: Sequence[Any]) -> list[Part]:
        def take(index: int, row: Row) -> Part:
            starts, ends = (row[name].astype(np.float64) for name in self._outputs)
            item = encodings[index]
            inside = [place for place, text in enumerate(item.sequence_ids) if text == CONTEXT]
            return Part(
                starts[inside], ends[inside], float(starts[0] + ends[0]),
                [item.offsets[place] for place in inside],
            )  # fmt: skip

        return self.texts.run(encodings, self._outputs, take)


def best(parts: Sequence[Part], context: str, longest: int, none: bool) -> Answer:
    """The span with the highest sum of both logits, over all parts of a context.

    Its score is its share of the exponentials of all spans of all parts. A span that two parts
    share is one: it counts in each, and its shares are added.
    """
    sums = [_sums(part, longest) for part in parts]
    empty = [part.none for part in parts] if none else []
    tops = [float(table.max()) for table in sums if table.size]
    top = max([*tops, *empty], default=0.0)
    total = sum(float(np.exp(table - top).sum()) for table in sums)
    total += sum(float(np.exp(value - top)) for value in empty)
    # A part without the answer says that there is none: all of them have to.
    if not tops or (none and min(empty) > max(tops)):
        return Answer("", 0, 0, float(np.exp(min(empty) - top)) / total if empty else 0.0)
    which = int(np.argmax([float(table.max()) if table.size else -np.inf for table in sums]))
    place, length = np.unravel_index(int(sums[which].argmax()), sums[which].shape)
    start, end = parts[which].offsets[place][0], parts[which].offsets[place + length][1]
    shared = sum(
        float(np.exp(value - top))
        for part, table in zip(parts, sums, strict=True)
        for value in _at(part, table, start, end)
    )
    text = context[start:end]
    start += len(text) - len(text.lstrip())
    return Answer(text.strip(), start, start + len(text.strip()), shared / total)


def _sums(part: Part, longest: int) -> Array:
    """Sums of logits by first piece and length less one, [pieces, longest]; -inf past the end."""
    count = len(part.starts)
    table = np.full((count, max(min(longest, count), 1)), -np.inf)
    for length in range(table.shape[1] if count else 0):
        table[: count - length, length] = part.starts[: count - length] + part.ends[length:]
    return table


def _at(part: Part, table: Array, start: int, end: int) -> list[float]:
    """The sum of the span with these characters; none where the part does not hold it."""
    first = [place for place, (begin, _) in enumerate(part.offsets) if begin == start]
    last = [place for place, (_, stop) in enumerate(part.offsets) if stop == end]
    if not first or not last or not 0 <= last[-1] - first[0] < table.shape[1]:
        return []
    return [float(table[first[0], last[-1] - first[0]])]

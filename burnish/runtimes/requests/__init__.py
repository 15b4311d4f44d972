"""Requests as JSON has them, and an opened artifact that answers several of them at once.

A request is an object. What its fields are depends on what the artifact is for: texts where it has
a task, prompts and settings where it writes text, named arrays otherwise. Answers are objects too.
"""

from __future__ import annotations

from burnish.runtimes.requests.interface import Answerer, Answers
from burnish.runtimes.requests.opening import open_answerer

__all__ = ["Answerer", "Answers", "open_answerer"]

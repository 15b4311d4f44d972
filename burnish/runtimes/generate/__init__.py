"""Text from decoders, and from encoders with decoders: greedy, drawn, by beams, guessed ahead.

`opening` finds what lies in a folder; `generator` takes prompts and settings; `batch` runs one
batch through a `loop`, with a `decoder` that keeps its caches where they are computed. What is
decided about tokens (`processors`, `choosing`, `beams`, `lookup`, `text`) knows no model.
"""

from __future__ import annotations

from burnish.runtimes.generate.batch import Generated
from burnish.runtimes.generate.generator import Generator
from burnish.runtimes.generate.opening import TASKS, open_generator
from burnish.runtimes.generate.settings import Settings

__all__ = ["TASKS", "Generated", "Generator", "Settings", "open_generator"]

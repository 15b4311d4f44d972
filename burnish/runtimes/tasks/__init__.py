"""Artifacts that answer for their task: texts and images in, labels, entities, vectors out.

`opening.open_task` opens a folder with its manifest, or an .onnx file beside its tokenizer and
configuration. Answers are small frozen dataclasses (`answers`), in the order of the inputs.
"""

from burnish.runtimes.tasks.opening import open_task

__all__ = ["open_task"]

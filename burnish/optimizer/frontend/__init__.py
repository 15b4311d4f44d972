"""Checkpoints in, ONNX out: what a folder holds, its task, and the exporters of PyTorch.

`checkpoint`, `hub` and `tasks` need neither torch nor Transformers, and say what is wrong with an
input before either is imported; the other modules are the only ones that import them, in a child
of the sandbox.
"""

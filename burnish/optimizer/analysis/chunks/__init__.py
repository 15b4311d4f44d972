"""Attentions that are computed in chunks: which keys each query sees, proven by running them."""

from burnish.optimizer.analysis.chunks.prove import FORM, Chunks, window_of

__all__ = ["FORM", "Chunks", "window_of"]

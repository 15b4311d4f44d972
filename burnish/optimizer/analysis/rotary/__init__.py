"""Rotary embeddings in pieces: which elements are turned together, and by which angles."""

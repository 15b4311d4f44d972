"""Caches of keys and values in int8: which there are, and how they are written."""

"""Attention within a window, computed block by block: no value over all queries and all keys."""

"""Selections of tokens, and how far up they can move."""

"""Moves of rows, composed and brought to where fewer are needed."""

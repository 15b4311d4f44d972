"""Normalizations in pieces, and the one operator that says the same."""

"""Restructure: the same function, computed with less work."""

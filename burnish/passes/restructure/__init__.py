"""The same function, computed with less work."""

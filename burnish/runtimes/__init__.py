"""Runtimes: they run an artifact and know no pass."""

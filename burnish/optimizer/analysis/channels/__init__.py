"""Channels that can be removed together: what reads and writes each of them, by dataflow."""

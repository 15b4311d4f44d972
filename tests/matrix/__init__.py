"""Architectures times exporters: what Burnish, and its peer, recover of each."""

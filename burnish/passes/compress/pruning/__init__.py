"""Heads, hidden channels and layers that go, and the weights that make up for them."""

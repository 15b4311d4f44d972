"""Softmax between two products, in any spelling, becomes `Attention`."""

"""Weights of which few elements are other than zero, stored by those."""

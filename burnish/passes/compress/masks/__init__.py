"""Weights of which a share becomes zero, the others making up for it."""

"""Activations in pieces, known by the function that they compute."""

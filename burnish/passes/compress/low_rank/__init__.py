"""Weights as products of two matrices of low rank."""

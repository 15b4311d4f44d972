"""Fourier transforms and convolutions by way of them, as products."""

"""Fourier transforms: what a `DFT` computes, the matrices that compute it, and convolutions."""

from burnish.optimizer.analysis.spectra.constants import Constants
from burnish.optimizer.analysis.spectra.convolutions import Convolution, Finder
from burnish.optimizer.analysis.spectra.matrices import Matrix, factors
from burnish.optimizer.analysis.spectra.transforms import Transform, lifted, transform_of

__all__ = [
    "Constants",
    "Convolution",
    "Finder",
    "Matrix",
    "Transform",
    "factors",
    "lifted",
    "transform_of",
]

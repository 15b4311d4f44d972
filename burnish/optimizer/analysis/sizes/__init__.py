"""Shapes of values as polynomials in the sizes of the inputs."""

from burnish.optimizer.analysis.sizes.contents import Contents
from burnish.optimizer.analysis.sizes.layout import FAR, Shape, axes_of, numbers
from burnish.optimizer.analysis.sizes.rules import BROADCAST, broadcast
from burnish.optimizer.analysis.sizes.size import ONE, Size, agree, product
from burnish.optimizer.analysis.sizes.sizes import Sizes, declared

__all__ = [
    "BROADCAST",
    "FAR",
    "ONE",
    "Contents",
    "Shape",
    "Size",
    "Sizes",
    "agree",
    "axes_of",
    "broadcast",
    "declared",
    "numbers",
    "product",
]

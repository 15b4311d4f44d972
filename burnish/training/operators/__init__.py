"""What each operator of ONNX computes, in PyTorch, so that gradients flow through it."""

from __future__ import annotations

from burnish.training.operators.attention import ATTENTION
from burnish.training.operators.elementwise import ELEMENTWISE
from burnish.training.operators.form import Operator
from burnish.training.operators.images import IMAGES
from burnish.training.operators.indexing import INDEXING
from burnish.training.operators.normalization import NORMALIZATION
from burnish.training.operators.products import PRODUCTS
from burnish.training.operators.reductions import REDUCTIONS
from burnish.training.operators.shapes import SHAPES

OPERATORS: dict[str, Operator] = {
    **ELEMENTWISE,
    **SHAPES,
    **INDEXING,
    **REDUCTIONS,
    **PRODUCTS,
    **NORMALIZATION,
    **ATTENTION,
    **IMAGES,
}
"""By the operator's name in the standard domain, operator sets 13 to 25."""

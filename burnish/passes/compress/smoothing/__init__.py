"""Channels of an activation are divided, and the rows of the weights that read it multiplied.

    product:  x @ w  ==  (x / d) @ (d * w)      d [k], positive

What a form of weights and activations loses can depend on d: int8 has one range for an activation,
whose channels should reach equally far (SmoothQuant, Xiao et al., 2023, arXiv:2211.10438); weights
in blocks have ranges, in which a row that matters should be large (AWQ, Lin et al., 2023,
arXiv:2306.00978). Each form has its own d (`int8.divisors`, `blockwise.divisors`); here is where
the division goes (`places`, `dividing`):

- into scale and shift of a normalization;
- with the user's own data into the columns of the product that the activation comes from, where
  it is proportional to that, channel by channel: behind a ReLU, or where it is what a gate lets
  through (`up` of SwiGLU). This is cross-layer equalization (Nagel et al., 2019, arXiv:1906.04721);
- else, behind a normalization, into a `Mul`.

Made-up inputs say enough of outputs of normalizations only: which of their channels stand out is a
property of the model (of its scale and of the residual stream), so that ranges seen on one kind of
input hold on another. Elsewhere they do not: ranges of activations and attention on made-up inputs
made int8 worse on real text.
"""

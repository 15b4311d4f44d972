"""Perplexity: the exponential of the mean negative log-likelihood of a token."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from burnish.optimizer.contract import Array
from burnish.optimizer.metrics.scores import Scores

PERPLEXITY = "perplexity"


def losses(logits: Array, ids: Array) -> Array:
    """Negative log-likelihoods in nats, [tokens].

    Args:
        logits: [tokens, vocabulary].
        ids: [tokens], the ones that stand there.
    """
    logits = logits.astype(np.float64)
    largest = logits.max(axis=-1)
    spread = np.log(np.exp(logits - largest[:, None]).sum(axis=-1))
    found: Array = largest + spread - logits[np.arange(len(ids)), ids]
    return found


def score(annotated: Sequence[object], given: Sequence[tuple[float, int]]) -> Scores:
    """Perplexity over all tokens of all texts; infinite where it has no finite value.

    Args:
        annotated: nothing is; as many as there are texts.
        given: of each text the sum of its losses, and how many there are.
    """
    if len(annotated) != len(given):
        raise ValueError("there is a loss for each text")
    total, count = sum(loss for loss, _ in given), sum(tokens for _, tokens in given)
    try:
        perplexity = math.exp(total / count) if count else math.inf
    except OverflowError:
        perplexity = math.inf
    if math.isnan(perplexity):
        perplexity = math.inf
    return Scores({PERPLEXITY: perplexity}, count)

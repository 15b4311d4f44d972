"""How far a student's answers, states and attentions are from its teacher's.

Each loss is a mean over real tokens, and of the order of one for a student that knows nothing, so
that weights mean the same for all models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from burnish.training.operators.attention import heads_of
from burnish.training.taps import Relation, Taps

Values = Mapping[str, Tensor]

TINY = 1e-8


@dataclass(frozen=True)
class Weights:
    """What counts how much.

    Attributes:
        logits: answers: distributions by their divergence, vectors by distance and angle.
        hidden: the residual stream behind each layer, mean squared error over the variance.
        relations: who attends to whom in the last layer, and which values are alike.
        temperature: above 1 shows more of what a teacher thinks of unlikely classes
            (Hinton et al., 2015, arXiv:1503.02531).
    """

    logits: float = 1.0
    hidden: float = 1.0
    relations: float = 1.0
    temperature: float = 2.0


@dataclass(frozen=True)
class Comparison:
    """What of two networks is compared.

    Attributes:
        weights: see `Weights`.
        outputs: names of the outputs that both have.
        distributions: those of them whose last axis holds scores of classes.
        teacher, student: see `Taps`.
    """

    weights: Weights
    outputs: tuple[str, ...]
    distributions: frozenset[str]
    teacher: Taps
    student: Taps

    def losses(self, teacher: Values, student: Values, mask: Tensor | None) -> dict[str, Tensor]:
        """Each kind of loss by its name, weighted; those of weight 0 are left out.

        Args:
            teacher: outputs and looked-at values by name.
            student: likewise.
            mask: [batch, sequence], whether a token is real; None where all are.
        """
        found: dict[str, Tensor] = {}
        if self.weights.logits:
            rows = ((name, teacher[name], student[name]) for name in self.outputs)
            parts = [self._answer(*row, mask) for row in rows]
            found["logits"] = self.weights.logits * torch.stack(parts).mean()
        if self.weights.hidden and self.student.hidden:
            pairs = zip(self.teacher.hidden, self.student.hidden, strict=True)
            parts = [distance(teacher[mine], student[theirs], mask) for mine, theirs in pairs]
            found["hidden"] = self.weights.hidden * torch.stack(parts).mean()
        if self.weights.relations and self.student.relations:
            both = zip(self.teacher.relations, self.student.relations, strict=True)
            parts = [relations(teacher, student, pair, mask) for pair in both]
            found["relations"] = self.weights.relations * torch.stack(parts).mean()
        return found

    def _answer(self, name: str, teacher: Tensor, student: Tensor, mask: Tensor | None) -> Tensor:
        if name in self.distributions:
            return divergence(teacher, student, mask, self.weights.temperature)
        angle = 1.0 - functional.cosine_similarity(teacher, student, -1)
        return distance(teacher, student, mask) + _mean(angle, mask)


def divergence(teacher: Tensor, student: Tensor, mask: Tensor | None, temperature: float) -> Tensor:
    """KL of the teacher's distribution from the student's, times the square of the temperature."""
    wanted = functional.log_softmax(teacher / temperature, -1)
    given = functional.log_softmax(student / temperature, -1)
    each = (wanted.exp() * (wanted - given)).sum(-1)
    return _mean(each, mask) * temperature**2


def distance(teacher: Tensor, student: Tensor, mask: Tensor | None) -> Tensor:
    """Mean squared error over the variance of what is wanted."""
    spread = _mean((teacher - _mean(teacher, mask, keep=True)).square().mean(-1), mask)
    return _mean((teacher - student).square().mean(-1), mask) / (spread + TINY)


def relations(
    teacher: Values, student: Values, pair: Sequence[Relation], mask: Tensor | None
) -> Tensor:
    """KL of scaled products: of queries with keys, and of values with values.

    Wang et al., 2020 (arXiv:2002.10957, 2012.15828). Heads are joined and parted anew, so that the
    two may have other numbers of heads, and heads of other sizes.
    """
    parts = []
    mine, theirs = pair
    heads = math.gcd(_heads(teacher, mine), _heads(student, theirs))
    for first, second in (("query", "key"), ("value", "value")):
        scores = []
        for values, relation in ((teacher, mine), (student, theirs)):
            left = _parted(values, relation, first, heads)
            right = _parted(values, relation, second, heads)
            scores.append(left @ right.transpose(2, 3) / math.sqrt(left.shape[-1]))
        if mask is not None and mask.shape == (scores[0].shape[0], scores[0].shape[3]):
            hidden = ~mask[:, None, None, :]
            scores = [item.masked_fill(hidden, -1e4) for item in scores]
        wanted, given = (functional.log_softmax(item, -1) for item in scores)
        parts.append(_mean((wanted.exp() * (wanted - given)).sum(-1).mean(1), mask))
    return torch.stack(parts).mean()


def _heads(values: Values, relation: Relation) -> int:
    return int(heads_of(values[relation.query], relation.heads or None).shape[1])


def _parted(values: Values, relation: Relation, kind: str, heads: int) -> Tensor:
    """[batch, heads, sequence, size] of queries, keys or values; shared ones are repeated."""
    own = relation.heads if kind == "query" else relation.shared
    apart = heads_of(values[getattr(relation, kind)], own or None)
    group = _heads(values, relation) // apart.shape[1]
    apart = apart.repeat_interleave(group, 1) if group > 1 else apart
    joined = apart.transpose(1, 2).flatten(2)
    return joined.reshape(*joined.shape[:2], heads, -1).transpose(1, 2)


def _mean(each: Tensor, mask: Tensor | None, *, keep: bool = False) -> Tensor:
    """The mean over real tokens; `keep`: for each channel of the last axis."""
    if mask is None or each.shape[: mask.ndim] != mask.shape:
        return each.mean(tuple(range(each.ndim - 1))) if keep else each.mean()
    real = each[mask]
    return real.mean(0) if keep else real.mean()

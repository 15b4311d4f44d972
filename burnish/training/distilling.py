"""A student is trained to answer as its teacher does; no labels are needed."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from burnish.training import state as states
from burnish.training.batches import Batches
from burnish.training.losses import Comparison
from burnish.training.memory import Memory
from burnish.training.muon import Muon
from burnish.training.network import Network, tensors
from burnish.training.state import State

JUDGEMENTS = 40
"""How often the student is judged on what is held out, over the whole of the training."""

WARM_UP = 0.05
"""Share of the training in which the rate rises."""

LARGEST_STEP = 1.0
"""Norm to which gradients are cut."""

SPARSE = 0.05
"""Share of zeros from which a matrix has a mask: other trained ones hold hardly any zero. One of
zeros alone has none, since it would never be trained."""

Say = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        steps: batches; 0 where time is the limit.
        seconds: of training; 0 where steps are. Only a number of steps gives the same each time.
        rate: at its largest; it rises first, then falls to 0.
        decay: of matrices.
        patience: judgements that brought neither better answers nor a smaller loss before it ends.
        muon: names of matrices that Muon trains; AdamW trains what is left.
    """

    steps: int = 0
    seconds: float = 0.0
    rate: float = 5e-4
    decay: float = 0.01
    patience: int = 10
    muon: frozenset[str] = frozenset()

    def done(self, step: int, seconds: float) -> float:
        """The share of the training that is done, 0 to 1."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = seconds / self.seconds if self.seconds else 0.0
        return min(1.0, max(by_steps, by_time))

    def rate_at(self, done: float) -> float:
        """The rate when that share is done."""
        return self.rate * min((done + 1e-3) / WARM_UP, (1.0 - done) / (1.0 - WARM_UP))


@dataclass(frozen=True)
class Masked:
    """Matrices whose zeros stay zero.

    Attributes:
        matrices: how many.
        zeros: elements of theirs that are zero.
    """

    matrices: int
    zeros: int


@dataclass
class Distillation:
    """One training.

    Attributes:
        teacher, student: the networks; only the second one has parameters.
        comparison: what of them is compared.
        batches: see `Batches`.
        mask: name of the input that says which tokens are real; empty where none does.
        schedule: see `Schedule`.
        checkpoint: where to write how far it is, or None.
        order: digest of what is trained; see `State`.
        say: told of each judgement, and of steps.
        stopped: whether the user wants it to end.
        masked: what of the student stays zero.
    """

    teacher: Network
    student: Network
    comparison: Comparison
    batches: Batches
    mask: str
    schedule: Schedule
    checkpoint: Path | None = None
    order: str = ""
    say: Say = lambda event: None
    stopped: Callable[[], bool] = lambda: False
    state: State = field(default_factory=State)

    def __post_init__(self) -> None:
        self._weights = list(self.student.weights)
        self._best = [weight.detach().clone() for weight in self._weights]
        self._memory = Memory(frozenset(self.comparison.teacher.names))
        self.masked = self._hold_zeros([weight for weight in self._weights if weight.ndim > 1])
        self._optimizer = Muon(self._groups(), self.schedule.rate)
        self.state.order = self.order

    def _groups(self) -> list[dict[str, Any]]:
        """Weights by how they are trained; Muon would move zeros that have no gradient, too."""
        named = list(zip(self.student.names, self._weights, strict=True))
        muon = {name for name, item in named if name in self.schedule.muon and not _zeros_of(item)}
        rest = [item for name, item in named if name not in muon]
        decay = self.schedule.decay
        groups: list[dict[str, Any]] = [
            {"params": [item for name, item in named if name in muon], "muon": True},
            {"params": [item for item in rest if item.ndim > 1]},
            {"params": [item for item in rest if item.ndim <= 1], "weight_decay": 0.0},
        ]
        return [{"weight_decay": decay, **group} for group in groups if group["params"]]

    def _hold_zeros(self, matrices: Sequence[Tensor]) -> Masked:
        """Let the zeros of sparse matrices stay: without a gradient AdamW does not move them."""
        count = zeros = 0
        for weight in matrices:
            if gone := _zeros_of(weight):
                held = functools.partial(torch.mul, weight.detach() != 0)
                weight.register_hook(held)  # type: ignore[no-untyped-call]
                count, zeros = count + 1, zeros + gone
        return Masked(count, zeros)

    def resume(self) -> None:
        """Go on where the checkpoint is."""
        assert self.checkpoint is not None
        weights = self._weights
        self.state = states.read(self.checkpoint, self.order, weights, self._optimizer, self._best)

    def run(self) -> str:
        """Train; the student then has the best weights that were seen. Why it ended."""
        begun = time.monotonic() - self.state.seconds
        if not self.state.history:
            self._judge()
        reason = ""
        while not reason:
            done = self.schedule.done(self.state.step, self.state.seconds)
            loss = self._step(self.schedule.rate_at(done))
            self.state.step += 1
            self.state.seconds = time.monotonic() - begun
            now = self.schedule.done(self.state.step, self.state.seconds)
            self.say({"stage": "training", "done": now, "step": self.state.step, "loss": loss})
            stopped, due = self.stopped(), int(now * JUDGEMENTS) > int(done * JUDGEMENTS)
            if due:
                self._judge()
            if due or stopped:
                self._write()
            if stopped and not due:
                self._judge()  # not in the checkpoint: who goes on would not have judged here
            reason = self._why_ended(now, stopped)
        with torch.no_grad():
            for weight, best in zip(self._weights, self._best, strict=True):
                weight.copy_(best)
        return reason

    def _why_ended(self, done: float, stopped: bool) -> str:
        if stopped:
            return "interrupted"
        if done >= 1.0:
            return "done"
        return "no better any more" if self.state.stale >= self.schedule.patience else ""

    def _step(self, rate: float) -> float:
        """One batch; its loss."""
        which, arrays = self.batches.batch(self.state.step)
        feed = tensors(arrays)
        mask = self._real(feed)
        wanted = self._wanted(("trained", which), feed, mask)
        parts = self.comparison.losses(wanted, self.student(feed), mask)
        loss = torch.stack(list(parts.values())).sum()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._weights, LARGEST_STEP)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def _wanted(
        self, key: tuple[str, int], feed: Mapping[str, Tensor], mask: Tensor | None
    ) -> Mapping[str, Tensor]:
        """What the teacher gives."""
        return self._memory.recall(key, mask, lambda: self.teacher(feed))

    def _real(self, feed: Mapping[str, Tensor]) -> Tensor | None:
        return feed[self.mask].bool() if self.mask else None

    def _judge(self) -> None:
        """Compare on what is held out; weights that do best are kept."""
        found = self.judged()
        now = found["fidelity"], -found["loss"]
        least = min((item["loss"] for item in self.state.history), default=float("inf"))
        self.state.history.append({"step": self.state.step, **found})
        # First choices of few texts go up and down while the student still learns.
        self.state.stale = 0 if found["loss"] < least else self.state.stale + 1
        if now > (self.state.best[0], -self.state.best[1]):
            self.state.best = found["fidelity"], found["loss"]
            self.state.best_step, self.state.stale = self.state.step, 0
            self._best = [weight.detach().clone() for weight in self._weights]
        done = self.schedule.done(self.state.step, self.state.seconds)
        self.say({"stage": "judging", "done": done, "step": self.state.step, **found})

    @torch.no_grad()
    def judged(self) -> dict[str, float]:
        """`fidelity` (first choices that agree, or the mean cosine), and each loss, held out."""
        totals: dict[str, float] = {}
        for number, held in enumerate(self.batches.held):
            feed = tensors(held)
            mask = self._real(feed)
            wanted, given = self._wanted(("held", number), feed, mask), self.student(feed)
            parts = self.comparison.losses(wanted, given, mask)
            found = {name: float(value) for name, value in parts.items()}
            found |= {"loss": sum(found.values()), "fidelity": self._fidelity(wanted, given, mask)}
            for name, value in found.items():
                totals[name] = totals.get(name, 0.0) + value / len(self.batches.held)
        return totals

    def _fidelity(
        self, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], mask: Tensor | None
    ) -> float:
        """Of the output that is least alike."""
        found = []
        for name in self.comparison.outputs:
            first, second = wanted[name], given[name]
            if name in self.comparison.distributions:
                each = (first.argmax(-1) == second.argmax(-1)).float()
            else:
                each = functional.cosine_similarity(first, second, -1)
            real = mask is not None and each.shape == mask.shape
            found.append(float(each[mask].mean() if real else each.mean()))
        return min(found)

    def _write(self) -> None:
        if self.checkpoint is not None:
            states.write(self.checkpoint, self.state, self._weights, self._optimizer, self._best)


def _zeros_of(weight: Tensor) -> int:
    """How many zeros a weight has that are to stay; none where it is not sparse."""
    gone = weight.numel() - int(weight.detach().count_nonzero())
    return gone if SPARSE * weight.numel() <= gone < weight.numel() else 0

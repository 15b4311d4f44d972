"""The loss that the budget is compared with."""

from __future__ import annotations

import numpy as np
import pytest
from samples import parse

from burnish.optimizer.fidelity import fidelity, is_distribution


def one(first: object, second: object, *, made_up: bool = False, scores: bool = True):
    """The comparison of one output on one feed."""
    return fidelity(
        [{"y": np.asarray(first, np.float64)}],
        [{"y": np.asarray(second, np.float64)}],
        {"y"} if scores else set(),
        made_up=made_up,
    )


def test_equal_answers_lose_nothing() -> None:
    found = one([[1, 2], [4, 3]], [[1, 2], [4, 3]])
    assert found.drop == 0.0
    assert found.outputs["y"].top1 == 1.0
    assert found.outputs["y"].rel_l2 == 0.0
    assert found.outputs["y"].cosine == pytest.approx(1.0)


def test_on_data_the_loss_is_the_share_of_changed_first_choices() -> None:
    found = one([[1, 2], [4, 3], [0, 1], [5, 1]], [[2, 1], [4, 3], [0, 1], [5, 1]])
    assert found.drop == 0.25
    assert found.metric == "first choices that changed"


def test_on_made_up_inputs_the_loss_is_the_probability_lost() -> None:
    found = one([[0.6, 0.4], [0.9, 0.1]], [[0.4, 0.6], [0.8, 0.2]], made_up=True)
    assert found.drop == pytest.approx(0.1)
    assert found.metric == "probability lost by changed first choices"


def test_scores_become_probabilities_first() -> None:
    # A softmax over log 3 and 0 is 3/4 and 1/4.
    found = one([[np.log(3), 0.0]], [[0.0, 1.0]], made_up=True)
    assert found.drop == pytest.approx(0.5)


def test_vectors_lose_by_direction() -> None:
    found = one([[1, 0], [0, 1]], [[1, 0], [1, 0]], scores=False)
    assert found.drop == pytest.approx(0.5)
    assert found.metric == "1 - mean cosine"
    assert found.outputs["y"].top1 is None
    assert found.outputs["y"].max_abs == 1.0


def test_scaled_vectors_keep_their_direction() -> None:
    found = one([[1, 2]], [[2, 4]], scores=False)
    assert found.drop == pytest.approx(0.0)
    assert found.outputs["y"].rel_l2 == pytest.approx(1.0)


def test_rows_that_the_original_leaves_undefined_do_not_count() -> None:
    found = one([[1, 2], [np.nan, np.nan]], [[1, 2], [7, 7]], scores=False)
    assert found.drop == pytest.approx(0.0)


def test_a_new_nan_is_a_whole_loss() -> None:
    assert one([[1, 2]], [[1, np.nan]]).drop == 1.0
    assert one([[1, 2]], [[1, np.nan]], scores=False).drop == 1.0


def test_another_shape_is_a_whole_loss() -> None:
    assert one([[1, 2]], [[1, 2, 3]]).drop == 1.0


def test_integers_count_by_the_share_that_differs() -> None:
    def drop(other: list[int]) -> float:
        return fidelity(
            [{"y": np.array([1, 2])}], [{"y": np.array(other)}], set(), made_up=False
        ).drop

    assert drop([1, 2]) == 0.0
    assert drop([1, 3]) == 0.5
    assert drop([0, 3]) == 1.0


@pytest.mark.parametrize("made_up", [False, True])
def test_the_best_class_beside_its_scores(made_up: bool) -> None:
    """Between near ties of made-up inputs another index costs nothing; on real ones it counts."""
    scores, labels = np.zeros((4, 3)), np.array([0, 1, 2, 0])
    first = {"scores": scores, "label": labels}
    second = {"scores": scores, "label": np.array([0, 1, 2, 1])}
    assert fidelity([first], [second], set(), made_up=made_up).drop == (0.0 if made_up else 0.25)
    assert fidelity([{"y": labels}], [{"y": second["label"]}], set(), made_up=made_up).drop == 0.25


def test_what_a_mask_rules_out_hides_nothing() -> None:
    """A score of -inf in every row: the others are compared all the same."""
    random = np.random.default_rng(0)
    scores = random.standard_normal((5, 4))
    scores[:, 0] = -np.inf
    wrong = -scores
    wrong[:, 0] = -np.inf
    for other, bound in ((scores, 0.0), (wrong, 1.0)):
        found = fidelity([{"y": scores}], [{"y": other}], {"y"}, made_up=False)
        assert found.drop == pytest.approx(bound)
    shown = np.where(np.isinf(scores), 3.0, scores)
    assert fidelity([{"y": scores}], [{"y": shown}], {"y"}, made_up=False).drop == 1.0


def test_the_worst_output_counts() -> None:
    reference = {"a": np.array([[1.0, 0.0]]), "b": np.array([[1.0, 0.0]])}
    found = fidelity([reference], [reference | {"b": np.array([[0.0, 1.0]])}], {"b"}, made_up=False)
    assert found.drop == 1.0
    assert found.metric == "first choices that changed"
    assert found.outputs["a"].cosine == 1.0


def test_no_feeds_no_loss() -> None:
    assert fidelity([], [], set(), made_up=True).drop == 0.0


@pytest.mark.parametrize(
    ("name", "node", "expected"),
    [
        ("y", "y = Softmax (x)", True),
        ("y", "p = LogSoftmax (x) y = Cast <to = 1> (p)", True),
        ("y", "y = Tanh (x)", False),
        ("class_logits", "class_logits = Tanh (x)", True),
        ("y", "p = Softmax (x) y = MatMul (p, x)", False),
    ],
)
def test_is_distribution(name: str, node: str, expected: bool) -> None:
    model = parse(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2, 2] x) => (float[2, 2] {name}) {{ {node} }}
    """)
    assert is_distribution(model.graph.outputs[0]) is expected


def test_the_worst_group_counts() -> None:
    random = np.random.default_rng(0)
    reference = [{"y": random.standard_normal((4, 8))} for _ in range(4)]
    noise = (0.0, 0.3, 0.0, 0.3)
    candidate = [
        {"y": feed["y"] + scale * random.standard_normal((4, 8))}
        for feed, scale in zip(reference, noise, strict=True)
    ]
    groups = ["en", "de", "en", "de"]
    found = fidelity(reference, candidate, set(), made_up=False, groups=groups)
    alone = fidelity(reference[1::2], candidate[1::2], set(), made_up=False)
    assert found.groups == {"en": 0.0, "de": alone.drop}
    assert found.drop == alone.drop
    assert found.metric == "1 - mean cosine in the worst group, de,"
    together = fidelity(reference, candidate, set(), made_up=False, groups=["en"] * 4)
    assert together.groups == {}
    assert 0 < together.drop < found.drop

"""The memory of scores by length and form."""

from __future__ import annotations

import pytest

from burnish.optimizer.analysis.costs.scores import CHUNK, block_of, scores


@pytest.mark.parametrize(
    ("width", "block"), [(1, 64), (129, 64), (257, 64), (512, 128), (1024, 256), (4096, 1024)]
)
def test_blocks_are_about_a_quarter_of_the_window(width: int, block: int) -> None:
    assert block_of(width) == block


def test_only_dense_scores_grow_with_the_square() -> None:
    short, long = scores(12, 4096, 129), scores(12, 32768, 129)
    assert short["dense"] == 4 * 12 * 4096**2
    assert long["dense"] == 64 * short["dense"]
    assert long["blocks"] == 8 * short["blocks"] == 8 * 4 * 12 * 4096 * (64 + 128)
    assert long["chunks"] == CHUNK
    assert scores(12, 512, None) == {"dense": 4 * 12 * 512**2, "chunks": 4 * 12 * 512**2}

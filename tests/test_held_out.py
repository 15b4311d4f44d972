"""What is calibrated on some of the user's data is judged on the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from burnish.driver.candidate import Reference


def reference(*groups: str) -> Reference:
    folders = [Path(str(index)) for index in range(len(groups))]
    outputs = [{"y": np.array([index])} for index in range(len(groups))]
    return Reference(folders, outputs, "on data.jsonl", [], list(groups))


def numbers(part: Reference) -> list[int]:
    """Which feeds there are; all that is known of them goes together."""
    assert [int(folder.name) for folder in part.folders] == [int(o["y"][0]) for o in part.outputs]
    assert len(part.groups) == len(part.folders)
    return [int(folder.name) for folder in part.folders]


def test_no_feed_is_in_both() -> None:
    used, held = reference("", "", "", "", "").split()
    assert (numbers(used), numbers(held)) == ([0, 2, 4], [1, 3])
    assert held.description == "on data.jsonl, held out of calibration"


def test_each_group_is_in_both() -> None:
    used, held = reference("en", "en", "en", "de", "de", "fr", "fr").split()
    assert used.groups == ["en", "en", "de", "fr"]
    assert held.groups == ["en", "de", "fr"]
    assert not {*numbers(used)} & {*numbers(held)}


def test_a_group_of_one_feed_is_all_that_is_known_of_it() -> None:
    used, held = reference("en", "en", "de").split()
    assert (numbers(used), numbers(held)) == ([0, 2], [1, 2])
    assert held.description == "on data.jsonl"

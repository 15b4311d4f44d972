"""The record of choices: read, measured, replayed, refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest

from burnish.optimizer import record as record_file
from burnish.optimizer import tuner
from burnish.optimizer.contract import Choice
from burnish.optimizer.errors import StorageError, UnsupportedModel
from burnish.optimizer.executor import Executor
from burnish.optimizer.measure import Entrant, Timing
from burnish.optimizer.tuner import Tuner


def form() -> onnx.ModelProto:
    return onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        form (float[2, 3] x) => (float[2, 3] y) { y = Relu (x) }
    """)


FORMS = {"fp32": form, "int8": form, "int8-merged": form}


class Contest:
    """A contest with known results: (low, median) by form."""

    def __init__(self, **results: tuple[float, float]) -> None:
        self.results = {name.replace("_", "-"): pair for name, pair in results.items()}
        self.calls = 0
        self.broken: set[str] = set()

    def admit(self, name: str, entrant: Entrant) -> None:
        if name in self.broken:
            raise UnsupportedModel("no kernel")

    def compare(self, entrants: Mapping[str, Entrant], *rest: Any) -> dict[str, Timing]:
        self.calls += 1
        assert all(entrant.path.exists() for entrant in entrants.values())
        return {
            name: Timing(1.0, 1.0, middle, low, 2 * middle - low, 7)
            for name, (low, middle) in self.results.items()
            if name in entrants
        }


def make(executor: Executor, record: Path | None, contest: Any = None, **options: Any) -> Tuner:
    return Tuner(contest, executor, record, options.pop("machine", "cpu A"), **options)


def test_the_rule_decides_where_nothing_is_measured(executor: Executor) -> None:
    assert make(executor, None)("key", FORMS, "int8") == Choice("int8", 1.0, False)


@pytest.mark.parametrize(
    ("contest", "winner", "speedup"),
    [
        (Contest(int8=(1.5, 1.6), int8_merged=(1.8, 2.0)), "int8-merged", 2.0),
        (Contest(int8=(1.5, 1.6), int8_merged=(1.1, 1.2)), "int8", 1.6),
        (Contest(int8=(0.99, 1.6), int8_merged=(0.5, 0.6)), "fp32", 1.6),
        (Contest(int8=(0.7, 0.8), int8_merged=(0.5, 0.6)), "fp32", 0.8),
    ],
    ids=["largest", "larger", "not-sure", "slower"],
)
def test_a_form_wins_whose_whole_interval_is_above_one(
    executor: Executor, contest: Contest, winner: str, speedup: float
) -> None:
    choice = make(executor, None, contest)("key", FORMS, "int8")
    assert choice == Choice(winner, speedup, True, 1.0)


def test_a_free_axis_is_fed_at_the_size_it_is_called_by() -> None:
    message = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        form (float["8", "128", 3] x) => (float[a, b, 3] y) { y = Relu (x) }
    """)
    assert tuner._normal_feed(message)["x"].shape == (8, 128, 3)


def test_what_was_measured_is_remembered(executor: Executor, tmp_path: Path) -> None:
    record = tmp_path / "cache" / "tuning.json"
    contest = Contest(int8=(1.5, 1.6))
    first = make(executor, record, contest)
    assert first("key", FORMS, "fp32") == first("key", FORMS, "fp32")
    first.close()
    assert contest.calls == 1
    assert json.loads(record.read_text()) == {
        "cpu A | key": {"winner": "int8", "speedup": 1.6, "measured": True, "ms": 1.0}
    }
    assert make(executor, record)("key", FORMS, "fp32") == Choice("int8", 1.6, True, 1.0)
    other = make(executor, record, machine="cpu B")("key", FORMS, "fp32")
    assert other == Choice("fp32", 1.0, False)


def test_two_runs_at_once_lose_nothing(executor: Executor, tmp_path: Path) -> None:
    record = tmp_path / "tuning.json"
    contest = Contest(int8=(1.5, 1.6))
    first, second = make(executor, record, contest), make(executor, record, contest)
    first("one", FORMS, "fp32")
    second("two", FORMS, "fp32")
    first.close()
    second.close()
    assert set(json.loads(record.read_text())) == {"cpu A | one", "cpu A | two"}


def test_a_record_of_rules_alone_is_not_written(executor: Executor, tmp_path: Path) -> None:
    made = make(executor, tmp_path / "tuning.json")
    made("key", FORMS, "int8")
    made.close()
    assert not (tmp_path / "tuning.json").exists()


def test_replay_asks_for_no_machine(executor: Executor, tmp_path: Path) -> None:
    record = tmp_path / "given.json"
    record.write_text('{"key": {"winner": "int8-merged", "speedup": 3.0, "measured": true}}')
    choice = make(executor, record, machine="any", replay=True)("key", FORMS, "fp32")
    assert choice == Choice("int8-merged", 3.0, True)


def test_replay_keeps_the_choices_of_providers_apart(executor: Executor, tmp_path: Path) -> None:
    record = tmp_path / "tuning.json"
    for provider, contest in (
        ("", Contest(int8=(1.5, 1.6))),
        ("openvino", Contest(int8=(0.5, 0.6))),
    ):
        with make(executor, record, contest, provider=provider) as made:
            made("key", FORMS, "fp32")
    for provider, winner in (("", "int8"), ("openvino", "fp32")):
        replay = make(executor, record, machine="B", provider=provider, replay=True)
        assert replay("key", FORMS, "int8-merged").winner == winner


def test_the_first_form_that_runs_is_the_baseline(executor: Executor) -> None:
    contest = Contest(int8_merged=(1.5, 1.6))
    contest.broken = {"fp32"}
    assert make(executor, None, contest)("key", FORMS, "fp32").winner == "int8-merged"
    contest.broken = {"fp32", "int8"}
    assert make(executor, None, contest)("key", FORMS, "fp32").winner == "int8-merged"
    contest.broken = set(FORMS)
    with pytest.raises(UnsupportedModel):
        make(executor, None, contest)("key", FORMS, "fp32")


def test_a_form_that_is_no_more_is_measured_again(executor: Executor, tmp_path: Path) -> None:
    record = tmp_path / "given.json"
    record.write_text('{"key": {"winner": "int4", "speedup": 3.0, "measured": true}}')
    choice = make(executor, record, Contest(int8=(1.5, 1.6)), replay=True)("key", FORMS, "fp32")
    assert choice.winner == "int8"


@pytest.mark.parametrize(
    "content",
    ["", "[1]", '{"key": 5}', '{"key": {"winner": "int8"}}', '{"key": {"who": 1}}', "\x00", "{"],
)
def test_a_corrupt_record_is_a_storage_error(
    executor: Executor, tmp_path: Path, content: str
) -> None:
    record = tmp_path / "tuning.json"
    record.write_text(content)
    with pytest.raises(StorageError, match="is not a tuning record"):
        make(executor, record)


def test_deep_json_is_a_storage_error(executor: Executor, tmp_path: Path) -> None:
    record = tmp_path / "tuning.json"
    record.write_text("[" * 200_000)
    with pytest.raises(StorageError):
        make(executor, record)


def test_a_record_that_cannot_be_written_is_no_failure(
    executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*rest: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record_file.os, "replace", full)
    said: list[str] = []
    made = make(executor, tmp_path / "tuning.json", Contest(int8=(1.5, 1.6)), warn=said.append)
    assert made("key", FORMS, "fp32") == made("key", FORMS, "fp32")
    made("other", FORMS, "fp32")
    assert said == ["choices could not be kept in the tuning record: no space left on device"]
    assert list(tmp_path.glob(".tuning*")) == []


def test_a_choice_is_recorded_at_once(executor: Executor, tmp_path: Path) -> None:
    """A process that is killed has lost nothing that it measured."""
    record = tmp_path / "tuning.json"
    make(executor, record, Contest(int8=(1.5, 1.6)))("key", FORMS, "fp32")
    assert make(executor, record)("key", FORMS, "fp32").winner == "int8"


def test_what_another_process_has_measured_is_not_measured_again(
    executor: Executor, tmp_path: Path
) -> None:
    record, late = tmp_path / "tuning.json", Contest(int8_merged=(1.5, 1.6))
    first, second = make(executor, record, Contest(int8=(1.5, 1.6))), make(executor, record, late)
    first("key", FORMS, "fp32")
    assert second("key", FORMS, "fp32").winner == "int8"
    assert late.calls == 0


def test_the_first_of_two_that_measure_at_once_stands(executor: Executor, tmp_path: Path) -> None:
    record = tmp_path / "tuning.json"
    other = make(executor, record, Contest(int8=(1.5, 1.6)))

    class Slow(Contest):
        def compare(self, *rest: Any) -> dict[str, Timing]:
            other("key", FORMS, "fp32")
            return super().compare(*rest)

    slow = make(executor, record, Slow(int8_merged=(1.5, 1.6)))
    assert slow("key", FORMS, "fp32").winner == "int8"
    assert slow("key", FORMS, "fp32").winner == "int8"
    assert make(executor, record)("key", FORMS, "fp32").winner == "int8"


def test_the_default_record_is_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert tuner.default_record() == Path("/somewhere/burnish/tuning.json")


def test_processor() -> None:
    name, flags = tuner.processor()
    assert name
    assert isinstance(flags, frozenset)

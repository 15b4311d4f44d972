"""Artifacts that answer for their task, with models whose answers are looked up in a table."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from artifacts import answering, at_spaces, folder, lookup, summed, word_level

import burnish
from burnish.optimizer.errors import BurnishError, InvalidModel, UnsafeInput, UsageError
from burnish.runtimes.tasks import open_task
from burnish.runtimes.tasks.ports import batches
from burnish.runtimes.tasks.questions import Part, best
from burnish.runtimes.tasks.texts import TextsCut, positions

TAGS = ["O", "B-PER", "I-PER", "B-LOC"]
WORDS = ["Ada", "Byron", "saw", "Rome"]


def table(tokenizer: object, classes: int, **rows: list[float]) -> np.ndarray:
    """A table with these rows by piece; class 0 wins elsewhere."""
    found = np.zeros((tokenizer.get_vocab_size(), classes), np.float32)  # type: ignore[attr-defined]
    found[:, 0] = 1.0
    for piece, row in rows.items():
        found[tokenizer.token_to_id(piece)] = row  # type: ignore[attr-defined]
    return found


@pytest.fixture
def tagger(tmp_path: Path) -> Path:
    tokenizer = word_level(WORDS)
    rows = table(tokenizer, 4, Ada=[0, 9, 0, 0], Byron=[0, 0, 9, 0], Rome=[0, 0, 0, 9])
    return folder(tmp_path / "tagger", lookup(rows), "token-classification", tokenizer, labels=TAGS)


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    tokenizer = word_level(["good", "bad"])
    rows = table(tokenizer, 2, good=[0, 2], bad=[2, 0])
    rows[:5] = 0
    path = tmp_path / "judge"
    return folder(path, summed(rows), "text-classification", tokenizer, labels=["no", "yes"])


def test_entities_of_texts(tagger: Path) -> None:
    text = "Ada Byron saw (Rome)."
    with open_task(tagger) as task:
        person, place = task(text)
        assert task([text, "saw"]) == [[person, place], []]
    assert (person.kind, person.text, person.start, person.end) == ("PER", "Ada Byron", 0, 9)
    assert (place.kind, place.text, place.start, place.end) == ("LOC", "Rome", 15, 19)
    assert person.score == pytest.approx(math.exp(9) / (math.exp(9) + 3))


def test_entities_of_words(tagger: Path) -> None:
    task = burnish.load(tagger)
    ((entity,),) = task.of_words([["saw", "Ada", "Byron"]])
    assert (entity.text, entity.start, entity.end) == ("Ada Byron", 1, 3)
    (tags,) = task.tags([["Rome", " ", "Rome"]])
    assert [tag.label for tag in tags] == ["B-LOC", "O", "B-LOC"]


def test_marks_at_the_ends_of_words_are_words(tmp_path: Path) -> None:
    """Tokenizers that split at spaces leave them there."""
    from tokenizers import models

    tokenizer = at_spaces(WORDS)
    tokenizer.model = models.WordPiece(
        {**tokenizer.get_vocab(), "(": 9, "##Rome": 10, "##)": 11, "##.": 12, "##'": 13, "##s": 14},
        unk_token="[UNK]",
    )
    rows = np.zeros((15, 4), np.float32)
    rows[:, 0] = 1.0
    rows[10] = [0, 0, 0, 9]
    path = folder(tmp_path / "t", lookup(rows), "token-classification", tokenizer, labels=TAGS)
    assert [(item.text, item.start) for item in open_task(path)("saw (Rome).")] == [("Rome", 5)]
    assert [item.text for item in open_task(path)("(Rome's).")] == ["Rome's"]


def test_pieces_of_scripts_without_spaces_are_words(tmp_path: Path) -> None:
    from tokenizers import models

    tokenizer = at_spaces(WORDS)
    vocabulary = {
        **tokenizer.get_vocab(),
        "他": 9,
        "##住在": 10,
        "##北京": 11,
        "##x": 12,
        "##。": 13,
    }
    tokenizer.model = models.WordPiece(vocabulary, unk_token="[UNK]")
    rows = np.zeros((14, 4), np.float32)
    rows[:, 0] = 1.0
    rows[11] = [0, 0, 0, 9]
    path = folder(tmp_path / "t", lookup(rows), "token-classification", tokenizer, labels=TAGS)
    (place,) = open_task(path)("他住在北京xx。")
    assert (place.text, place.start, place.end) == ("北京", 3, 5)


def test_batches_are_of_similar_length_and_answers_in_order(judge: Path) -> None:
    task = open_task(judge)
    seen = []
    run = task._opened.session.run
    task.session.run = lambda names, feed: seen.append(feed["input_ids"].shape) or run(names, feed)
    texts = ["good " * (1 + index % 7) + "bad " * (index % 3) for index in range(100)]
    found = task(texts)
    assert [item.label for item in found] == [task(text).label for text in texts]
    assert max(rows for rows, _ in seen) == 32
    widths = [width for rows, width in seen[:4]]
    assert widths == sorted(widths)
    assert batches([5, 1, 5, 2], 2, 10) == [[1, 3], [0, 2]]
    assert batches([5, 1, 5, 2], 8, 9) == [[1, 3], [0], [2]]
    assert batches([2, 1, 2], 8, 100, alike=True) == [[1], [0, 2]]


def test_classes(judge: Path) -> None:
    task = open_task(judge)
    one = task("good good bad")
    assert one.label == "yes"
    assert one.score == one.scores["yes"] == pytest.approx(1 / (1 + math.exp(-2)))
    assert one.labels == ("yes",)
    assert task(("good", "bad bad")).label == "no"
    assert [item.label for item in task([("good", "good"), ("bad", "bad")])] == ["yes", "no"]
    assert task([]) == []


def test_classes_that_do_not_exclude_each_other(judge: Path) -> None:
    config = judge / "config.json"
    config.write_text(json.dumps({"problem_type": "multi_label_classification"}))
    one = open_task(judge)("good bad")
    assert one.scores == pytest.approx(
        {"no": 1 / (1 + math.exp(-2)), "yes": 1 / (1 + math.exp(-2))}
    )
    assert one.labels == ("no", "yes")
    config.write_text(json.dumps({"problem_type": "regression"}))
    assert open_task(judge)("good bad bad").scores == {"no": 4.0, "yes": 2.0}


def test_texts_that_are_too_long_are_cut_and_it_is_said(judge: Path) -> None:
    (judge / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 6}))
    task = open_task(judge)
    with pytest.warns(TextsCut, match=r"1 of 2 texts .* 6 pieces .*\(number 2 is"):
        found = task(["good", "good " * 4 + "bad " * 9])
    assert [item.label for item in found] == ["yes", "yes"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task("good " * 4)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"max_position_embeddings": 512, "pad_token_id": 0}, 512),
        ({"max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 77}}, 77),
        ({}, None),
    ],
)
def test_positions_that_texts_can_reach(config: dict, expected: int | None) -> None:
    assert positions(config) == expected


def test_without_a_mask_nothing_is_padded(tmp_path: Path) -> None:
    tokenizer = word_level(WORDS)
    rows = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 4))
    path = folder(
        tmp_path / "t", lookup(rows, output="last_hidden_state", mask=False),
        "feature-extraction", tokenizer,
    )  # fmt: skip
    task = open_task(path)
    seen = []
    run = task.session.run
    task.session.run = lambda names, feed: seen.append(feed["input_ids"].shape) or run(names, feed)
    task(["Ada", "Ada saw Rome", "Rome"])
    assert seen == [(2, 3), (1, 5)]


@pytest.mark.parametrize("mode", ["mean", "cls", "max", "last"])
def test_vectors(tmp_path: Path, mode: str) -> None:
    tokenizer = word_level(WORDS)
    rows = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 3)).astype(np.float32)
    path = folder(
        tmp_path / "t", lookup(rows, output="last_hidden_state"), "feature-extraction",
        tokenizer, pooling={"mode": mode, "normalize": True},
    )  # fmt: skip
    texts = ["Ada saw Rome", "Rome"]
    found = open_task(path)(texts)
    for text, vector in zip(texts, found, strict=True):
        pieces = rows[tokenizer.encode(text).ids]
        expected = {
            "mean": pieces.mean(0), "cls": pieces[0], "max": pieces.max(0), "last": pieces[-1],
        }[mode]  # fmt: skip
        assert vector == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)
        assert open_task(path)(text, normalize=False) == pytest.approx(expected, abs=1e-6)


def test_fillings(tmp_path: Path) -> None:
    tokenizer = word_level(WORDS)
    size = tokenizer.get_vocab_size()
    rows = np.zeros((size, size), np.float32)
    rows[tokenizer.token_to_id("[MASK]"), tokenizer.token_to_id("Rome")] = 9
    rows[tokenizer.token_to_id("[MASK]"), tokenizer.token_to_id("Ada")] = 8
    path = folder(tmp_path / "t", lookup(rows), "fill-mask", tokenizer)
    task = open_task(path)
    first, second = task("[MASK] saw [MASK] .", most=2)
    assert [item.token for item in first] == [item.token for item in second] == ["Rome", "Ada"]
    assert first[0].score == pytest.approx(math.exp(9) / (math.exp(9) + math.exp(8) + size - 2))
    with pytest.raises(UsageError, match=r"text 2 holds no \[MASK\]"):
        task(["[MASK]", "Ada"])


@pytest.mark.parametrize("limit", [100, 16])
def test_answers_are_found_in_every_part_of_a_context(tmp_path: Path, limit: int) -> None:
    task = open_task(answering(tmp_path / "q", limit))
    context = "saw Rome , " * 12 + "Ada , Byron saw Rome ! " + "saw . " * 12
    found = task("who saw Ada Byron ?", context)
    assert found.text == "Ada , Byron"
    assert context[found.start : found.end] == found.text
    assert 0.5 < found.score < 1.0
    assert task(["who", "who"], [context, "Ada Byron"])[1].text == "Ada Byron"


def test_a_question_without_room_for_a_context_is_refused(tmp_path: Path) -> None:
    task = open_task(answering(tmp_path / "q", 8))
    with pytest.raises(UsageError, match="no context"):
        task("who saw Ada and Byron in Rome ?", "Ada")
    with pytest.raises(UsageError, match="have 1 contexts"):
        task(["who", "who"], ["Ada"])


def test_the_score_of_an_answer_is_its_share() -> None:
    part = Part(np.array([0.0, 1.0]), np.array([0.0, 2.0]), 4.0, [(0, 1), (2, 3)])
    spans = [math.exp(value) for value in (0, 2, 3)]  # a to a, a to b, b to b
    found = best([part], "a b", longest=5, none=False)
    assert (found.text, found.score) == ("b", pytest.approx(spans[2] / sum(spans)))
    # The same part twice is the same span in two parts.
    assert best([part, part], "a b", 5, none=False).score == pytest.approx(found.score)
    nothing = best([part], "a b", 5, none=True)
    assert (nothing.text, nothing.start, nothing.end) == ("", 0, 0)
    assert nothing.score == pytest.approx(math.exp(4) / (sum(spans) + math.exp(4)))
    assert best([part], "a b", longest=1, none=False).score == pytest.approx(
        spans[2] / (spans[0] + spans[2])
    )


def test_a_file_tells_its_task_by_its_ports(tagger: Path, judge: Path) -> None:
    (tagger / "manifest.json").unlink()
    (tagger / "config.json").write_text(json.dumps({"id2label": dict(enumerate(TAGS))}))
    assert open_task(tagger / "model.onnx").name == "token-classification"
    assert open_task(judge / "model.onnx").name == "text-classification"
    assert burnish.load(tagger / "model.onnx", task="ner")("Rome")[0].kind == "LOC"
    assert burnish.load(tagger / "model.onnx").get_inputs()[0].name == "input_ids"


def test_the_session_is_the_runtime(judge: Path) -> None:
    task = burnish.load(judge)
    ids = np.array([[5]])
    (logits,) = task.session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    assert logits.tolist() == [[0.0, 2.0]]
    task.close()
    task.close()


def test_what_is_wrong_with_a_folder_is_said(judge: Path, tmp_path: Path) -> None:
    def failing(kind: type[BurnishError], match: str, **options: str) -> None:
        with pytest.raises(kind, match=match):
            open_task(judge, **options)  # type: ignore[arg-type]

    manifest = json.loads((judge / "manifest.json").read_text())

    def write(**changes: object) -> None:
        (judge / "manifest.json").write_text(json.dumps(manifest | changes))

    failing(UsageError, "provider npu is not known", provider="npu")
    failing(BurnishError, "no answers are made for the task poetry", task="poetry")
    with pytest.raises(UsageError, match="--task poetry is not known"):
        burnish.load(judge, task="poetry")
    failing(InvalidModel, "no output start_logits", task="question-answering")
    write(models={"model": "../model.onnx"})
    failing(UnsafeInput, "outside")
    write(task="ctc")
    failing(BurnishError, "no answers are made for the task ctc")
    write(labels=["one"])
    with pytest.raises(InvalidModel, match="has 1 labels, and its model gives 2"):
        open_task(judge)("good")
    write()
    (judge / "tokenizer.json").write_text("{")
    failing(UsageError, "texts need a tokenizer")
    (judge / "manifest.json").unlink()
    failing(UsageError, "no artifact")
    with pytest.raises(BurnishError, match="does not exist") as raised:
        open_task(tmp_path / "none")
    assert raised.value.line("x").count("\n") == 0


def test_inputs_of_no_known_meaning_are_refused(tmp_path: Path) -> None:
    tokenizer = word_level(WORDS)
    model = lookup(table(tokenizer, 4))
    model.graph.input.append(
        onnx.helper.make_tensor_value_info("bbox", onnx.TensorProto.INT64, ["batch", "sequence", 4])
    )
    path = folder(tmp_path / "t", model, "token-classification", tokenizer)
    with pytest.raises(BurnishError, match="no known meaning") as raised:
        open_task(path)
    assert raised.value.place == "bbox"


def test_answers_in_openvino(judge: Path, tagger: Path) -> None:
    for path, text in ((judge, "good good bad"), (tagger, "Ada Byron saw Rome.")):
        expected = open_task(path)([text, text + " saw"])
        with open_task(path, provider="openvino", threads=1) as task:
            assert task([text, text + " saw"]) == expected

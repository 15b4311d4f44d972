"""`--languages`, `--corpus`, `--keep-tokens`: the model, its tokenizer, and the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from harness import make_context, unsupervised
from onnx import TensorProto
from samples import Builder
from tokenizers import Tokenizer
from tokenizers_made import KINDS, sentences, write_corpus

from burnish import driver
from burnish.driver import checkpoints, inspection, retreat, vocabulary
from burnish.driver.plan import passes_for
from burnish.driver.request import Request
from burnish.optimizer import pipeline, user_data
from burnish.optimizer.contract import Feeds
from burnish.optimizer.errors import BurnishError, UsageError
from burnish.optimizer.model import load
from burnish.optimizer.roles import slots
from burnish.optimizer.vocabulary.numbers import Numbers
from burnish.runtimes.tasks import folder as folders

WIDTH = 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A tagger of letters with a head that is tied, beside its tokenizer and texts."""
    made = KINDS["wordpiece"]()
    made.save(str(tmp_path / "tokenizer.json"))
    rows = made.get_vocab_size() + 3  # filled up, as tables are
    b = Builder()
    for name in ("input_ids", "attention_mask"):
        b.input(name, TensorProto.INT64, ["batch", "sequence"])
    b.normal("words", rows, WIDTH)
    b.op("Gather", ["words", "input_ids"], "embedded")
    b.constant("axis", [-1], np.int64)
    b.op("Cast", ["attention_mask"], "real", to=TensorProto.FLOAT)
    b.op("Unsqueeze", ["real", "axis"], "lifted")
    b.op("Mul", ["embedded", "lifted"], "masked")
    b.op("Tanh", [b.linear("masked", "dense", WIDTH, WIDTH)], "hidden")
    b.op("Transpose", ["words"], "turned", perm=[1, 0])
    b.op("MatMul", ["hidden", "turned"], "logits")
    b.output("hidden", TensorProto.FLOAT, ["batch", "sequence", WIDTH])
    b.output("logits", TensorProto.FLOAT, ["batch", "sequence", rows])
    onnx.save(b.message(17), tmp_path / "model.onnx")
    write_corpus(tmp_path / "texts")
    return tmp_path / "model.onnx"


def request(path: Path, **options: Any) -> Request:
    settings = {
        "languages": ("aa", "cc"),
        "corpus": str(path.parent / "texts"),
        "measure": False,
        "level": 0,
    }
    return Request(str(path), **{**settings, **options})


def optimize(path: Path, **options: Any) -> tuple[dict[str, Any], str]:
    """The report, and the condition that is not met."""
    wanted = request(path, **options)
    with unsupervised():
        report = driver.optimize(wanted).report
    return report, driver.missed(wanted, report)


def feed(tokenizer: Tokenizer, texts: list[str]) -> Feeds:
    tokenizer.enable_padding(**tokenizer.padding)
    batch = tokenizer.encode_batch(texts)
    return {
        "input_ids": np.array([item.ids for item in batch]),
        "attention_mask": np.array([item.attention_mask for item in batch]),
    }


def run(path: Path, given: Feeds) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(given)), strict=True))


def test_the_new_pair_gives_what_the_old_one_gave(path: Path) -> None:
    report, missed = optimize(path, level=2)
    assert not missed
    told = report["vocabulary"]
    assert told["cut"] and not told["reason"]
    assert set(told["languages"]) == {"aa", "cc"}
    assert told["languages"]["aa"]["kept"] > 0.9
    assert (
        told["after"]
        < told["before"]
        == Tokenizer.from_file(str(path.with_name("tokenizer.json"))).get_vocab_size()
    )

    new = Tokenizer.from_file(str(path.with_name("model.opt.tokenizer.json")))
    assert told["tokenizer"] == str(path.with_name("model.opt.tokenizer.json"))
    old = Tokenizer.from_file(str(path.with_name("tokenizer.json")))
    pieces = [new.id_to_token(index) for index in range(told["after"])]
    kept = [old.token_to_id(piece) for piece in pieces]
    texts = [text for text in sentences("aa", 60, seed=5) if set(old.encode(text).ids) <= {*kept}]
    assert len(texts) > 10
    first, second = feed(old, texts), feed(new, texts)
    assert [[kept[new] for new in row] for row in second["input_ids"]] == first[
        "input_ids"
    ].tolist()
    before, after = run(path, first), run(path.with_name("model.opt.onnx"), second)
    assert np.abs(before["hidden"] - after["hidden"]).max() <= 1e-6
    assert after["logits"].shape[-1] == told["after"]
    difference = before["logits"][..., kept] - after["logits"]
    assert np.abs(difference).max() <= 1e-6 * np.abs(before["logits"]).max()

    bytes_before, bytes_after = (report[key]["bytes"] for key in ("input", "output"))
    cut = WIDTH * 4 * (told["before"] + 3 - told["after"])
    assert bytes_before - bytes_after >= 0.9 * cut


def test_ids_can_stay(path: Path) -> None:
    report, missed = optimize(path, keep_ids=True)
    assert not missed and report["vocabulary"]["cut"] and not report["vocabulary"]["tokenizer"]
    assert not path.with_name("model.opt.tokenizer.json").exists()
    old = Tokenizer.from_file(str(path.with_name("tokenizer.json")))
    given = feed(old, sentences("aa", 20, seed=5) + sentences("bb", 3, seed=5))
    before, after = run(path, given), run(path.with_name("model.opt.onnx"), given)
    known = np.isfinite(after["logits"]).all(axis=(0, 1))
    assert known.sum() == report["vocabulary"]["after"]
    same = known[given["input_ids"]]
    assert same.any() and not same.all()
    assert np.abs(before["hidden"] - after["hidden"])[same].max() <= 1e-6
    unknown = old.token_to_id("<unk>")
    replaced = np.where(same, given["input_ids"], unknown)
    again = run(path, {**given, "input_ids": replaced})
    assert np.abs(again["hidden"] - after["hidden"]).max() <= 1e-6


def test_a_language_that_is_hardly_covered_leaves_all_as_it_is(path: Path) -> None:
    report, missed = optimize(path, min_coverage=1.0)
    assert "the vocabulary stays whole" in missed and "--min-coverage 1" in missed
    assert not report["vocabulary"]["cut"]
    assert not [step for step in report["passes"] if step["name"] == "vocabulary"]
    assert not path.with_name("model.opt.tokenizer.json").exists()
    result = onnx.load(path.with_name("model.opt.onnx"))
    assert result.graph.output[1].type.tensor_type.shape.dim[2].dim_value > 400


def test_tokens_can_be_named(path: Path) -> None:
    path.with_name("config.json").write_text('{"vocab_size": 603, "pad_token_id": 4}')
    names = path.with_name("tokens")
    names.write_text("a\n##a\nb\n", "utf-8")
    report, missed = optimize(path, languages=(), corpus=None, keep_tokens=str(names))
    assert not missed
    assert report["vocabulary"] == {
        "before": report["vocabulary"]["before"], "after": 8, "languages": {}, "cut": True,
        "keep_ids": False, "reason": "",
        "tokenizer": str(path.with_name("model.opt.tokenizer.json")),
    }  # fmt: skip
    own = folders.read(path.with_name("model.opt.onnx"))
    assert own.tokenizer == path.with_name("model.opt.tokenizer.json")
    assert own.config == {"vocab_size": 8, "pad_token_id": 4}
    assert folders.read(path).tokenizer == path.with_name("tokenizer.json")
    made = json.loads(own.tokenizer.read_text())
    assert list(made["model"]["vocab"]) == [
        "<pad>",
        "<unk>",
        "<s>",
        "</s>",
        "<mask>",
        "a",
        "b",
        "##a",
    ]


def test_texts_are_split_anew_for_comparisons(path: Path) -> None:
    data = path.with_name("data.txt")
    data.write_text("\n".join(sentences("aa", 40, seed=6) + sentences("bb", 5, seed=6)), "utf-8")
    report, missed = optimize(path, data=str(data), int8=True, max_drop=0.5)
    assert not missed
    assert report["fidelity"]["feeds"].startswith("on data.txt")
    assert report["vocabulary"]["cut"]
    kept = {step["name"] for step in report["passes"] if step["status"] == "kept"}
    assert {"vocabulary"} <= kept


def test_ids_that_are_cut_are_compared_as_unknown_ones(path: Path) -> None:
    old = Tokenizer.from_file(str(path.with_name("tokenizer.json")))
    np.savez(path.with_name("data.npz"), **feed(old, sentences("bb", 5)))
    report, missed = optimize(path, data=str(path.with_name("data.npz")))
    assert not missed and report["vocabulary"]["cut"]
    assert report["fidelity"]["drop"] == 0.0


def test_ids_without_an_unknown_one_are_no_data(path: Path) -> None:
    (slot, mask) = slots(load(path).model)
    narrow = replace(slot, allowed=(0, 4))
    np.savez(path.with_name("data.npz"), input_ids=[[0, -1, 5]], attention_mask=[[1, 1, 1]])
    with pytest.raises(UsageError, match="id 5, which the vocabulary has no more"):
        user_data.read(path.with_name("data.npz"), [narrow, mask], path.parent)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"corpus": None}, "need each other"),
        ({"languages": ()}, "need each other"),
        ({"languages": (), "corpus": None, "keep_ids": True}, "--keep-ids is for"),
        ({"languages": ("zz",)}, "no file of language zz"),
        ({"tokenizer": "nowhere.json"}, "there is no nowhere.json"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(path: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(BurnishError, match=reason):
        optimize(path, **options)


def test_a_model_without_its_tokenizer_is_refused(path: Path) -> None:
    path.with_name("tokenizer.json").unlink()
    with pytest.raises(UsageError, match=r"chosen from a tokenizer\.json"):
        optimize(path)


def test_a_folder_gets_the_tokenizer_and_its_ids(path: Path, tmp_path: Path) -> None:
    chosen = tmp_path / "vocabulary.json"
    chosen.write_text(json.dumps({"kept": [0, 4, 7], "unknown": 1, "pieces": 8}))
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "config.json").write_text('{"vocab_size": 10, "pad_token_id": 4}')
    wanted = Request("x", vocabulary=str(chosen), tokenizer=str(path.with_name("tokenizer.json")))
    assert vocabulary.put_into(wanted, folder) == "tokenizer.json"
    assert json.loads((folder / "config.json").read_text()) == {"vocab_size": 3, "pad_token_id": 1}
    assert vocabulary.digest(wanted) == Numbers((0, 4, 7)).digest


def _step(status: str, detail: str = "", reason: str = "") -> dict[str, Any]:
    step = {"name": "vocabulary", "status": status, "detail": detail, "reason": reason}
    return {"passes": [step | {"refusals": []}]}


def test_graphs_of_a_folder_have_to_agree() -> None:
    facts = {"before": 9, "after": 3, "languages": {}, "keep_ids": False, "refused": ""}
    kept, elsewhere = _step("kept"), _step("unchanged", vocabulary.NOT_HERE)
    assert vocabulary.told(dict(facts), [kept, elsewhere])["cut"]
    assert vocabulary.told(dict(facts), [elsewhere])["reason"] == vocabulary.NOT_HERE
    apart = vocabulary.told(dict(facts), [kept, _step("rejected", "", "it broke its promise")])
    assert not apart["cut"] and apart["reason"] == "it broke its promise"


def test_what_lasts_stays_where_the_model_is_slower(path: Path) -> None:
    """All else is taken back, and the cut is done alone."""
    plan = path.with_name("vocabulary.json")
    plan.write_text(json.dumps({"kept": [0, 1, 2, 3, 9], "unknown": 1, "pieces": 9}))
    wanted = Request(str(path), vocabulary=str(plan), measure=False)
    context = make_context()
    model = load(path).model
    passes = [item for item in passes_for(wanted) if item.name not in ("onnxsim", "raise-opset")]
    compiled = pipeline.run(model, passes, context, None)
    at_least = [item.name for item in passes_for(replace(wanted, level=0))]
    assert pipeline.first_asked(compiled) is None and retreat.lasts(compiled)
    again = retreat.reduced(
        compiled, "slower", lambda chosen: pipeline.run(model, chosen, context, None)
    )
    assert [step.transform.name for step in again.kept if step.transform.lasting] == ["vocabulary"]
    assert {step.transform.name for step in again.kept} <= {*at_least}
    assert len(again.snapshots) == len(again.steps)
    assert again.ports.renumbering is not None
    assert at_least == ["inline-functions", "fold-constants", "clean", "vocabulary"]


def test_the_smaller_model_is_timed_on_ids_that_it_has(path: Path) -> None:
    optimize(path)
    model = load(path.with_name("model.opt.onnx")).model
    given = {"input_ids": np.array([[3, 600]]), "attention_mask": np.array([[1, 0]])}
    fitted = inspection.fitted(given, model)
    rows = max(slot.bound for slot in slots(model))
    assert fitted["input_ids"].tolist() == [[3, 600 % rows]] and 300 < rows < 600
    assert fitted["attention_mask"].tolist() == [[1, 0]]


@pytest.mark.parametrize("agree", [True, False])
def test_a_pair_is_cut_together_or_not_at_all(path: Path, tmp_path: Path, agree: bool) -> None:
    """The way of a checkpoint's graphs, without exporting and compiling them."""
    exported, made = tmp_path / "exported", tmp_path / "artifact"
    for folder in (exported, exported / "encoder", exported / "decoder", made):
        folder.mkdir()
    old = path.with_name("tokenizer.json").read_bytes()
    (exported / "tokenizer.json").write_bytes(old)
    (exported / "config.json").write_text('{"vocab_size": 603, "pad_token_id": 0}')
    seen: list[Request] = []

    def compile_one(part: Request) -> driver.Result:
        seen.append(part)
        encoder = Path(part.model).stem == "encoder"
        steps = _step("kept") if encoder or agree else _step("rejected", "", "it is another one")
        return driver.Result({**steps, "input": {}}, None)

    report = checkpoints._graphs(
        request(path), {"parts": ["encoder", "decoder"], "selects": False}, (exported, made),
        lambda job, order: vocabulary.choose(order, lambda event: None), compile_one,
    )  # fmt: skip
    told, last = report["vocabulary"], seen[-1]
    assert told["cut"] == agree and len(seen) == (2 if agree else 4)
    assert all(part.vocabulary and not part.languages for part in seen[:2])
    size = json.loads((made / "config.json").read_text())["vocab_size"]
    written = json.loads((made / "tokenizer.json").read_text())
    if agree:
        assert told["tokenizer"] == "tokenizer.json" and size == told["after"]
        assert len(written["model"]["vocab"]) == told["after"]
        assert last.tokenizer is not None and Path(last.tokenizer).parent == made.parent
    else:
        assert told["reason"] == "it is another one" and size == 603
        assert written == json.loads(old)
        assert last.vocabulary is None and last.tokenizer == str(exported / "tokenizer.json")


def test_nothing_to_cut_is_no_failure(path: Path) -> None:
    pieces = Tokenizer.from_file(str(path.with_name("tokenizer.json"))).get_vocab_size()
    path.with_name("tokens").write_text("\n".join(map(str, range(pieces))))
    options = {"languages": (), "corpus": None, "keep_tokens": str(path.with_name("tokens"))}
    report, missed = optimize(path, **options)
    assert not missed
    assert report["vocabulary"]["after"] == report["vocabulary"]["before"] == pieces

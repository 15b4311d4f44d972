"""Checkpoints end to end: a folder in, an artifact folder out, held to PyTorch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers as hf

from burnish.optimizer import artifact
from burnish.optimizer.errors import UnsupportedModel, UsageError
from burnish.optimizer.frontend import checkpoint, export, models
from burnish.optimizer.frontend.tasks import TASKS

LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = {"hidden_size": 64, "intermediate_size": 128, "vocab_size": 300, **LAYERS}
BOTH = {
    "vocab_size": 300, "d_model": 64, "encoder_layers": 1, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 2,
}  # fmt: skip


def saved(folder: Path, kind: str, config: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    model = getattr(hf, kind)(getattr(hf, config)(**settings)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    model.save_pretrained(folder)
    return model


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [str(Path(sys.executable).with_name("optimize")), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "classifier"
    names = {0: "bad", 1: "so so", 2: "good"}
    saved(folder, "BertForSequenceClassification", "BertConfig", **TEXT, id2label=names)
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


def answers(path: Path, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(str(path)).run(None, feed)


def test_a_checkpoint_becomes_an_artifact(classifier: Path, tmp_path: Path) -> None:
    told = tmp_path / "report.json"
    target = tmp_path / "out"
    done = command(classifier, "--no-measure", "--json", told, "-o", target)
    assert done.returncode == 0, done.stderr
    assert "bert for text-classification, exported by dynamo, sdpa attention" in done.stdout
    assert "equal to PyTorch within" in done.stdout
    manifest = json.loads((target / "manifest.json").read_text())
    assert manifest["models"] == {"model": "model.onnx"}
    assert manifest["labels"] == ["bad", "so so", "good"]
    names = {path.name for path in target.iterdir()}
    assert names == {"manifest.json", "model.onnx", "config.json", "tokenizer_config.json"}
    assert set(manifest["sha256"]) == names - {"manifest.json"}
    report = json.loads(told.read_text())
    assert report["export"]["error"] < 1e-5
    attentions = report["parts"]["model"]["recovered"]["attention"]
    assert attentions["expected"] == attentions["found"] == 2
    assert report["parts"]["model"]["output"]["path"] == str(target / "model.onnx")
    ids, mask = np.arange(10, 24).reshape(2, 7), np.ones((2, 7), np.int64)
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0}
    with torch.no_grad():
        model = hf.AutoModelForSequenceClassification.from_pretrained(classifier).eval()
        wanted = model(**{name: torch.tensor(value) for name, value in feed.items()}).logits
    given = answers(target / "model.onnx", feed)[0]
    np.testing.assert_allclose(given, wanted.numpy(), atol=1e-5)
    assert not list(tmp_path.glob(".burnish-*"))


def test_an_encoder_and_a_decoder_share_what_is_computed_once(tmp_path: Path) -> None:
    model = saved(tmp_path / "bart", "BartForConditionalGeneration", "BartConfig", **BOTH)
    done = command(tmp_path / "bart", "--no-measure", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "MB that its graphs have in common are stored once" in done.stdout
    assert len(list((tmp_path / "out").glob("weights-*.data"))) == 1
    ids = np.array([[5, 6, 7, 8, 2], [9, 10, 2, 0, 0]])
    mask = (ids != 0).astype(np.int64)
    cross = answers(tmp_path / "out/encoder.onnx", {"input_ids": ids, "attention_mask": mask})
    session = onnxruntime.InferenceSession(str(tmp_path / "out/decoder.onnx"))
    ports = [port.name for port in session.get_inputs()]
    feed = {"input_ids": np.array([[2, 0, 9], [2, 5, 7]]), "encoder_attention_mask": mask}
    own = [name for name in ports if ".decoder." in name]
    feed |= dict.fromkeys(own, np.zeros((2, 4, 0, 16), np.float32))
    feed |= zip((name for name in ports if ".encoder." in name), cross, strict=True)
    with torch.no_grad():
        wanted = model(
            input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask),
            decoder_input_ids=torch.tensor(feed["input_ids"]),
        ).logits  # fmt: skip
    whole = session.run(None, feed)
    np.testing.assert_allclose(whole[0], wanted.numpy(), atol=1e-4)
    # The same, token by token: what a run gives are the next one's caches.
    first = session.run(None, feed | {"input_ids": feed["input_ids"][:, :2]})
    grown = dict(zip(own, first[1:], strict=True))
    last = session.run(None, feed | grown | {"input_ids": feed["input_ids"][:, 2:]})
    np.testing.assert_allclose(last[0][:, 0], wanted[:, 2].numpy(), atol=1e-4)


def test_a_task_of_other_models(classifier: Path) -> None:
    found, task = checkpoint.read(classifier), TASKS["image-classification"]
    with pytest.raises(UnsupportedModel, match="a bert model is not for image-classification"):
        models.load(found, task, "sdpa", trust_code=False)


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "fewer layers": ({"num_hidden_layers": 1}, "weights of layers that config.json does not have"),
    "more layers": ({"num_hidden_layers": 3}, "the checkpoint lacks 16 weights"),
    "another width": ({"hidden_size": 128}, "have other shapes"),
    "another vocabulary": ({"vocab_size": 301}, "have other shapes"),
    "heads that do not divide": ({"num_attention_heads": 7}, "its model cannot be made"),
    "no number": ({"hidden_size": "wide"}, "config.json makes no sense"),
    "no such architecture": ({"model_type": "oracle"}, "architecture oracle is not known"),
    "no such head": ({"architectures": ["BertForOracles"]}, "whose task is not known"),
    "another head": ({"architectures": ["BertForTokenClassification"]}, ""),
    "no head at all": ({"architectures": None}, "names no architectures"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lying_configurations(lie: str, classifier: Path, tmp_path: Path) -> None:
    changes, told = LIES[lie]
    shutil.copytree(classifier, tmp_path / "liar")
    config = json.loads((classifier / "config.json").read_text())
    (tmp_path / "liar" / "config.json").write_text(json.dumps(config | changes))
    found = checkpoint.read(tmp_path / "liar")

    def load() -> None:
        task = models.task_of(found.config, None)
        models.load(found, task, "eager", trust_code=False)

    if not told:  # a classifier of tokens has the same weights
        load()
        return
    with pytest.raises((UnsupportedModel, UsageError, Exception)) as raised:
        load()
    assert told in raised.value.line("liar")  # type: ignore[attr-defined]


def test_a_task_that_the_weights_do_not_serve(classifier: Path) -> None:
    done = command(classifier, "--task", "fill-mask", "--no-measure")
    assert done.returncode == 3
    assert "the checkpoint lacks" in done.stderr.splitlines()[-1]
    assert "--task feature-extraction" in done.stderr
    assert not list(classifier.parent.glob(".burnish-*"))
    assert not list(classifier.parent.glob("classifier.*"))


def test_what_cannot_be_made_is_said_before_anything_is_exported(classifier: Path) -> None:
    done = command(classifier, "--int8", "--int4")
    assert done.returncode == 2
    assert "exclude each other" in done.stderr
    assert "exporting" not in done.stderr


def test_exports_that_answer_otherwise_are_not_taken(classifier: Path, tmp_path: Path) -> None:
    found = checkpoint.read(classifier)

    def run(path: Path, feeds: list[dict[str, np.ndarray]]) -> list[list[np.ndarray]]:
        return [[array * 1.001 for array in answers(path, feed)] for feed in feeds]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(UnsupportedModel) as raised:
        patch.setattr(export, "WAYS", export.WAYS[2:3])
        export.exported(
            found, TASKS["text-classification"], tmp_path, trust_code=False, run=run,
            say=lambda stage: None,
        )  # fmt: skip
    assert "its answers are not PyTorch's (relative error 0.001)" in raised.value.message


def test_where_the_artifact_may_go(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    artifact.admit_folder(tmp_path / "empty", "input")
    artifact.admit_folder(tmp_path / "new", "input")
    for name, told in (("other", "holds other files"), ("file", "is a file")):
        with pytest.raises(UsageError, match=told):
            artifact.admit_folder(tmp_path / name, "input")
    with pytest.raises(UsageError, match="overwrite the input"):
        artifact.admit_folder(tmp_path / "empty", str(tmp_path / "empty"))


def test_an_earlier_artifact_is_replaced(tmp_path: Path) -> None:
    target, staged = tmp_path / "model.opt", tmp_path / "staging" / "model.opt"
    for folder, text in ((target, "old"), (staged, "new")):
        folder.mkdir(parents=True)
        (folder / artifact.MANIFEST).write_text(json.dumps({"burnish": text}))
    artifact.admit_folder(target, "input")
    artifact.publish_folder(staged, target)
    assert json.loads((target / artifact.MANIFEST).read_text()) == {"burnish": "new"}
    assert not staged.exists()


def test_commands_on_graphs_take_an_artifact_of_one(tmp_path: Path) -> None:
    assert artifact.graph_of("anything.onnx") == "anything.onnx"
    with pytest.raises(UsageError, match="without a manifest"):
        artifact.graph_of(str(tmp_path))
    (tmp_path / artifact.MANIFEST).write_text(json.dumps({"burnish": "0"}))
    (tmp_path / "encoder.onnx").touch()
    assert artifact.graph_of(str(tmp_path)) == str(tmp_path / "encoder.onnx")
    (tmp_path / "decoder.onnx").touch()
    with pytest.raises(UsageError) as raised:
        artifact.graph_of(str(tmp_path))
    assert raised.value.hint == "decoder.onnx, encoder.onnx"

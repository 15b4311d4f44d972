"""What a folder holds is said before anything of it is loaded."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from burnish.optimizer.errors import (
    BurnishError,
    InvalidModel,
    StorageError,
    UnsafeInput,
    UnsupportedModel,
    UsageError,
)
from burnish.optimizer.frontend import checkpoint, hub, tasks

Change = Callable[[Path], Any]


def safetensors(elements: int) -> bytes:
    """One float32 tensor of so many elements."""
    told = {"w": {"dtype": "F32", "shape": [elements], "data_offsets": [0, 4 * elements]}}
    header = json.dumps(told | {"__metadata__": {"format": "pt"}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4 * elements)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(safetensors(3))
    return tmp_path


def configured(**fields: Any) -> Change:
    return lambda folder: (folder / "config.json").write_text(json.dumps(fields))


def written(name: str, content: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content)


def indexed(*names: str) -> Change:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        where = {f"w{number}": name for number, name in enumerate(names)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))

    return change


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def removed(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"

FAULTS: dict[str, tuple[Change, type[BurnishError], str]] = {
    "no configuration": (removed("config.json"), InvalidModel, "it is no checkpoint"),
    "configuration cut off": (written("config.json", b'{"a": '), InvalidModel, "is not JSON"),
    "a list": (written("config.json", b"[1]"), InvalidModel, "holds no JSON object"),
    "pointer to the configuration": (written("config.json", POINTER), StorageError, "LFS pointer"),
    "no architecture": (configured(hidden_size=4), InvalidModel, "names no model_type"),
    "own code": (
        configured(model_type="x", auto_map={"AutoModel": "code.M"}),
        UnsafeInput,
        "needs code that comes with the checkpoint",
    ),
    "no weights": (removed("model.safetensors"), InvalidModel, "has no weights"),
    "pickles": (pickled, UnsafeInput, "pickled"),
    "pointer to the weights": (written("model.safetensors", POINTER), StorageError, "LFS pointer"),
    "weights cut off": (
        written("model.safetensors", safetensors(3)[:-2]),
        InvalidModel,
        "is cut off: it has",
    ),
    "no header": (written("model.safetensors", b"abc"), InvalidModel, "no safetensors file"),
    "header of another kind": (
        written("model.safetensors", struct.pack("<Q", 4) + b"[12]"),
        InvalidModel,
        "no legal safetensors header",
    ),
    "a missing shard": (
        indexed("model-1.safetensors", "model-2.safetensors"),
        InvalidModel,
        "model-1.safetensors is missing, one of 2 files of weights; so are 1 others",
    ),
    "a shard elsewhere": (indexed("../secret.safetensors"), UnsafeInput, "outside"),
    "an index of nothing": (indexed(), InvalidModel, "names no files"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str, folder: Path) -> None:
    change, kind, told = FAULTS[fault]
    change(folder)
    with pytest.raises(kind) as raised:
        checkpoint.read(folder)
    assert type(raised.value) is kind
    assert told in raised.value.line(str(folder))


def test_weights_of_another_framework(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "tf_model.h5")
    with pytest.raises(UnsupportedModel, match=r"tf_model\.h5"):
        checkpoint.read(folder)


def test_a_folder_of_onnx_files_names_one(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "decoder.onnx").touch()
    with pytest.raises(InvalidModel) as raised:
        checkpoint.read(folder)
    assert "decoder.onnx" in raised.value.hint


def test_what_is_whole_is_read(folder: Path) -> None:
    found = checkpoint.read(folder)
    assert found.weights == (folder / "model.safetensors",)
    assert (found.pickled, found.own_code) == (False, False)
    assert found.bytes == len(safetensors(3))
    pickled(folder)
    assert checkpoint.read(folder, allow_pickle=True).pickled


@pytest.mark.parametrize(
    ("name", "may_be"),
    [
        ("bert-base-uncased", True),
        ("org/name-1.5", True),
        ("model.onnx", False),
        ("a/b/c", False),
        ("../x", False),
        ("", False),
    ],
)
def test_names_that_may_be_of_the_hub(name: str, may_be: bool) -> None:
    assert hub.is_id(name) is may_be


def test_offline_without_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(StorageError, match="offline mode is on"):
        hub.folder_of("nobody/nothing", allow_pickle=False, trust_code=False)


def test_other_words_for_tasks() -> None:
    assert tasks.named("translation") is tasks.TASKS["text2text-generation"]
    assert set(tasks.ALIASES.values()) <= set(tasks.TASKS)
    with pytest.raises(UsageError, match="flying is not known"):
        tasks.named("flying")

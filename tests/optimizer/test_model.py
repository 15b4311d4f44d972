from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import made_up, run_model
from onnx import TensorProto, helper, numpy_helper

from burnish.optimizer import saving
from burnish.optimizer.errors import InvalidModel, StorageError
from burnish.optimizer.model import (
    SMALL,
    add_initializer,
    adopt,
    initializers,
    load,
    separate_names,
    without_weights,
)
from burnish.optimizer.saving import save

LARGE = (64, 32)


def message(seed: int = 0) -> onnx.ModelProto:
    """Two products by large weights, a small bias, and all that a caller can see of a model."""
    random = np.random.default_rng(seed)
    weights = {"w1": LARGE, "w2": LARGE[::-1], "bias": LARGE[:1]}
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("MatMul", ["x", "w1"], ["hidden"]),
            node("MatMul", ["hidden", "w2"], ["product"]),
            node("Add", ["product", "bias"], ["y"]),
            node("Cast", ["flags"], ["numbers"], to=TensorProto.FLOAT16),
        ],
        "graph name",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", None, 64]),
            helper.make_tensor_value_info("flags", TensorProto.BOOL, ["past + sequence"]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "rows", 64]),
            helper.make_tensor_value_info("numbers", TensorProto.FLOAT16, [None]),
        ],
        [
            numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
        doc_string="of the graph",
    )
    made = helper.make_model(
        graph,
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)],
        producer_name="producer",
        producer_version="1.2",
        doc_string="of the model",
    )
    helper.set_model_props(made, {"key": "value", "\u4e2d": "\x1b[0m"})
    return made


def weights_of(loaded: ir.Model) -> dict[str, np.ndarray[Any, Any]]:
    found = {}
    for value in initializers(loaded):
        assert value.name is not None and value.const_value is not None
        found[value.name] = value.const_value.numpy()
    return found


def listing(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def assert_same_weights(actual: ir.Model, expected: ir.Model) -> None:
    first, second = weights_of(actual), weights_of(expected)
    assert list(first) == list(second)
    for name, array in first.items():
        assert array.dtype == second[name].dtype
        np.testing.assert_array_equal(array, second[name])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(message().SerializeToString())
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("external", [False, True])
def test_all_that_a_caller_sees_is_kept(source: Path, out: Path, external: bool) -> None:
    original = message()
    save(load(source).model, out / "m.onnx", external=external)
    written = onnx.load(out / "m.onnx")
    assert list(written.graph.input) == list(original.graph.input)
    assert list(written.graph.output) == list(original.graph.output)
    assert list(written.graph.node) == list(original.graph.node)
    assert list(written.metadata_props) == list(original.metadata_props)
    assert list(written.opset_import) == list(original.opset_import)
    for field in ("ir_version", "producer_name", "producer_version", "doc_string"):
        assert getattr(written, field) == getattr(original, field)
    assert written.graph.name == original.graph.name
    assert written.graph.doc_string == original.graph.doc_string
    for mine, theirs in zip(written.graph.initializer, original.graph.initializer, strict=True):
        assert mine.name == theirs.name
        np.testing.assert_array_equal(numpy_helper.to_array(mine), numpy_helper.to_array(theirs))


def test_one_file_where_the_input_was_one(source: Path, out: Path) -> None:
    loaded = load(source)
    assert not loaded.external
    assert loaded.files == (source,)
    assert save(loaded.model, out / "m.onnx", external=False) == (out / "m.onnx",)
    assert listing(out) == ["m.onnx"]


def test_data_file_is_named_by_its_content(source: Path, out: Path) -> None:
    loaded = load(source)
    first = save(loaded.model, out / "m.onnx", external=True)
    assert first[0] == out / "m.onnx"
    assert listing(out) == sorted(file.name for file in first)
    name, content = first[1].name, first[1].read_bytes()
    assert name.startswith("m.onnx-")
    assert name.endswith(".data")
    again = save(loaded.model, out / "m.onnx", external=True)
    assert again == first
    assert again[1].read_bytes() == content
    save(ir.from_proto(message(seed=1)), out / "m.onnx", external=True)
    assert name not in listing(out)


def test_external_weights_are_read_back_equal(source: Path, out: Path) -> None:
    loaded = load(source)
    files = save(loaded.model, out / "m.onnx", external=True)
    again = load(files[0])
    assert again.external
    assert again.files == files
    assert_same_weights(again.model, loaded.model)


def test_large_weights_are_aligned_and_small_ones_inside(source: Path, out: Path) -> None:
    files = save(load(source).model, out / "m.onnx", external=True)
    tensors = onnx.load(files[0], load_external_data=False).graph.initializer
    places = {}
    for tensor in tensors:
        if tensor.data_location == TensorProto.EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            assert entries["location"] == files[1].name
            places[tensor.name] = int(entries["offset"]), int(entries["length"])
    size = LARGE[0] * LARGE[1] * 4
    assert size > SMALL
    assert set(places) == {"w1", "w2"}
    assert all(
        offset % saving.ALIGNMENT == 0 and length == size for offset, length in places.values()
    )


def test_external_weights_are_mapped(source: Path, out: Path) -> None:
    files = save(load(source).model, out / "m.onnx", external=True)
    tensors = {value.name: value.const_value for value in initializers(load(files[0]).model)}
    tensor = tensors["w1"]
    assert isinstance(tensor, ir.ExternalTensor)
    array: Any = tensor.numpy()
    assert not array.flags.owndata
    assert not array.flags.writeable
    assert tensor.raw is not None


def test_loading_does_not_read_external_weights(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = save(load(source).model, out / "m.onnx", external=True)

    def loaded(self: ir.ExternalTensor) -> None:
        raise AssertionError("a weight was read")

    monkeypatch.setattr(ir.ExternalTensor, "_load", loaded)
    assert load(files[0]).external


def test_external_input_stays_external_in_another_folder(source: Path, out: Path) -> None:
    first = save(load(source).model, source.parent / "external.onnx", external=True)
    loaded = load(first[0])
    files = save(loaded.model, out / "other.onnx", external=loaded.external)
    assert len(files) == 2
    assert files[1].parent == out
    first[1].unlink()
    assert_same_weights(load(files[0]).model, ir.from_proto(message()))


def test_weights_past_the_bound_go_to_a_data_file(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "EXTERNAL_ABOVE", 10_000)
    files = save(load(source).model, out / "m.onnx", external=False)
    assert len(files) == 2


@pytest.mark.parametrize("external", [False, True])
def test_lazy_weights_are_evaluated_one_at_a_time(
    out: Path, monkeypatch: pytest.MonkeyPatch, external: bool
) -> None:
    model = ir.from_proto(message())
    events: list[str] = []
    for name in ("lazy1", "lazy2"):
        array = np.full(LARGE, len(name), np.float32)

        def evaluate(name: str = name, array: Any = array) -> ir.Tensor:
            events.append(name)
            return ir.tensor(array)

        lazy = ir.LazyTensor(evaluate, ir.DataType.FLOAT, ir.Shape(LARGE), name=name)
        add_initializer(model.graph, name, lazy)
    write = saving._Stream.write

    def watched(stream: Any, data: Any) -> None:
        write(stream, data)
        if len(data) > SMALL:
            events.append("written")

    monkeypatch.setattr(saving._Stream, "write", watched)
    files = save(model, out / "m.onnx", external=external)
    assert events.count("lazy1") == events.count("lazy2") == 1
    assert "written" in events[events.index("lazy1") : events.index("lazy2")]
    assert weights_of(load(files[0]).model)["lazy2"][0, 0] == 5


def test_weight_that_two_names_share_is_written_once(out: Path) -> None:
    model = ir.from_proto(message())
    shared = ir.tensor(np.ones(LARGE, np.float32))
    for name in ("one", "two"):
        value = ir.Value(name=name, shape=ir.Shape(LARGE), type=ir.TensorType(ir.DataType.FLOAT))
        value.const_value = shared
        model.graph.register_initializer(value)
    files = save(model, out / "m.onnx", external=True)
    assert files[1].stat().st_size < 4 * LARGE[0] * LARGE[1] * 4
    np.testing.assert_array_equal(weights_of(load(files[0]).model)["two"], 1)


def test_old_data_file_outlives_a_failed_write(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = save(load(source).model, out / "m.onnx", external=True)
    before = {file: file.read_bytes() for file in files}

    def refuse(self: Path, target: Path) -> Path:
        if Path(target).suffix == ".onnx":
            raise OSError(errno.EIO, "Input/output error")
        os.replace(self, target)
        return Path(target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StorageError, match="writing failed: input/output error"):
        save(ir.from_proto(message(seed=1)), out / "m.onnx", external=True)
    assert {file: file.read_bytes() for file in files} == before
    assert listing(out) == sorted(file.name for file in files)


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("after", [0, 3000])
def test_existing_file_survives_a_full_disk(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, external: bool, after: int
) -> None:
    target = out / "m.onnx"
    target.write_bytes(b"precious")

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() + len(data) > after:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    monkeypatch.setattr(os, "fdopen", lambda handle, mode: Full(handle, mode.replace("b", "")))
    with pytest.raises(StorageError, match="no space left on device") as caught:
        save(load(source).model, target, external=external)
    assert caught.value.exit_code == 7
    assert target.read_bytes() == b"precious"
    assert listing(out) == ["m.onnx"]


def test_existing_file_survives_a_weight_that_cannot_be_computed(out: Path) -> None:
    target = out / "m.onnx"
    target.write_bytes(b"precious")
    model = ir.from_proto(message())

    def evaluate() -> ir.Tensor:
        raise ZeroDivisionError

    lazy = ir.LazyTensor(evaluate, ir.DataType.FLOAT, ir.Shape(LARGE), name="lazy")
    add_initializer(model.graph, "lazy", lazy)
    with pytest.raises(ZeroDivisionError):
        save(model, target, external=True)
    assert target.read_bytes() == b"precious"
    assert listing(out) == ["m.onnx"]


def test_missing_folder_is_a_storage_error(source: Path, out: Path) -> None:
    with pytest.raises(StorageError, match="no such file or directory"):
        save(load(source).model, out / "missing" / "m.onnx", external=False)


def test_old_data_file_is_removed_only_after_the_model_is_in_place(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(load(source).model, out / "m.onnx", external=True)
    order: list[str] = []
    replace, unlink = Path.replace, Path.unlink

    def replaced(self: Path, target: Path) -> Path:
        order.append(f"replace {Path(target).suffix}")
        return replace(self, target)

    def unlinked(self: Path, missing_ok: bool = False) -> None:
        if self.suffix == ".data":
            order.append("remove .data")
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "replace", replaced)
    monkeypatch.setattr(Path, "unlink", unlinked)
    save(ir.from_proto(message(seed=1)), out / "m.onnx", external=True)
    assert order == ["replace .data", "replace .onnx", "remove .data"]


def test_foreign_data_files_are_left_alone(source: Path, out: Path) -> None:
    foreign = ["m.data", "m-weights.data", "other-0123456789abcdef.data", "mm-0123456789abcde.data"]
    for name in foreign:
        (out / name).write_bytes(b"theirs")
    save(load(source).model, out / "m.onnx", external=False)
    assert listing(out) == sorted([*foreign, "m.onnx"])


def test_data_that_a_renamed_model_reads_is_left_alone(source: Path, out: Path) -> None:
    path, data = save(load(source).model, out / "m.onnx", external=True)
    path.rename(out / "best.onnx")
    save(ir.from_proto(message(seed=1)), out / "m.onnx", external=True)
    assert data.exists()
    (out / "copy.onnx").write_bytes((out / "m.onnx").read_bytes())
    (second,) = set(out.glob("*.data")) - {data}
    save(ir.from_proto(message(seed=2)), out / "m.onnx", external=True)
    assert second.exists()
    load(out / "copy.onnx")
    load(out / "best.onnx")


@pytest.mark.parametrize(("version", "named"), [(3, ()), (8, ("bias", "w1"))])
def test_initializers_that_are_inputs_become_constants(
    out: Path, version: int, named: tuple[str, ...]
) -> None:
    made = message()
    made.ir_version = version
    for name, shape in (("bias", LARGE[:1]), ("w1", LARGE)):
        made.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    onnx.save(made, out / "m.onnx")
    loaded = load(out / "m.onnx")
    assert loaded.overridable == named
    assert [value.name for value in loaded.model.graph.inputs] == ["x", "flags"]
    assert loaded.model.ir_version == max(version, 4)
    assert_same_weights(loaded.model, ir.from_proto(message()))


def test_weights_of_subgraphs_survive_a_round_without_them(out: Path) -> None:
    model = ir.from_proto(
        onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        branches (bool go, float[2, 2] x) => (float[2, 2] y)
        <float[2, 2] w = {1, 2, 3, 4}>
        {
          outer = MatMul (x, w)
          y = If (go) <
            then_branch = one () => (float[2, 2] a)
              <float[2, 2] v = {5, 6, 7, 8}> { a = MatMul (outer, v) },
            else_branch = two () => (float[2, 2] b)
              <float[2, 2] v = {9, 8, 7, 6}> { b = MatMul (outer, v) }>
        }""")
    )
    expected = run_model(model, feeds := made_up(model))
    adopt(model, without_weights(model, above=4))
    for mine, theirs in zip(expected, run_model(model, feeds), strict=True):
        np.testing.assert_array_equal(mine["y"], theirs["y"])


def test_a_new_initializer_takes_no_name_of_another_value() -> None:
    model = ir.from_proto(message())
    assert add_initializer(model.graph, "hidden", ir.tensor(np.ones(3))).name == "hidden_2"
    assert add_initializer(model.graph, "w1", ir.tensor(np.ones(3))).name == "w1_2"


def test_file_gets_the_usual_permissions(source: Path, out: Path) -> None:
    (out / "usual").touch()
    save(load(source).model, out / "m.onnx", external=False)
    assert (out / "m.onnx").stat().st_mode == (out / "usual").stat().st_mode


def test_same_model_gives_the_same_bytes(source: Path, out: Path) -> None:
    for name in ("a", "b"):
        (out / name).mkdir()
        save(load(source).model, out / name / "m.onnx", external=False)
    assert (out / "a" / "m.onnx").read_bytes() == (out / "b" / "m.onnx").read_bytes()


def test_digest_covers_external_data(source: Path, out: Path) -> None:
    files = save(load(source).model, out / "m.onnx", external=True)
    before = load(files[0]).sha256
    content = bytearray(files[1].read_bytes())
    content[0] ^= 1
    files[1].write_bytes(content)
    assert load(files[0]).sha256 != before


def test_unsorted_nodes_are_put_in_order(tmp_path: Path) -> None:
    unsorted = message()
    nodes = list(unsorted.graph.node)[::-1]
    del unsorted.graph.node[:]
    unsorted.graph.node.extend(nodes)
    path = tmp_path / "m.onnx"
    path.write_bytes(unsorted.SerializeToString())
    seen = {"x", "flags", "w1", "w2", "bias"}
    for node in load(path).model.graph:
        assert {value.name for value in node.inputs if value is not None} <= seen
        seen |= {value.name or "" for value in node.outputs}


def test_damaged_file_is_an_invalid_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(message().SerializeToString()[:-5])
    with pytest.raises(InvalidModel):
        load(path)


def test_a_new_value_gets_no_name_of_one_that_is_gone() -> None:
    model = ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["": 20]>
        g (float[n] x) => (float[n] y) { val_2 = Neg(x) val_3 = Abs(val_2) y = Exp(val_3) }"""
    )
    separate_names(model, {"val_2", "val_2_2", "y"})
    assert [node.outputs[0].name for node in model.graph] == ["val_2_3", "val_3", "y"]


@pytest.mark.parametrize("external", [False, True])
def test_weights_that_models_have_in_common_are_stored_once(out: Path, external: bool) -> None:
    first, second = out.parent / "first.onnx", out.parent / "second.onnx"
    models = [ir.from_proto(message(seed)) for seed in (0, 1)]
    shared = models[0].graph.initializers["w1"].const_value
    models[1].graph.initializers["w1"].const_value = shared
    for path, model in zip((first, second), models, strict=True):
        save(model, path, external=external)
    assert shared is not None
    assert saving.store_once([first, second], "weights") == shared.nbytes
    names = listing(out.parent)
    assert [name for name in names if name.endswith(".data")] == [
        name for name in names if name.startswith("weights-")
    ]
    for path, model in zip((first, second), models, strict=True):
        assert_same_weights(load(path).model, model)
    again = [path.read_bytes() for path in (first, second)]
    assert saving.store_once([first, second], "weights") == shared.nbytes
    assert [path.read_bytes() for path in (first, second)] == again


def test_models_that_have_little_in_common_stay_as_they_are(out: Path) -> None:
    paths = [out.parent / "first.onnx", out.parent / "second.onnx"]
    for seed, path in enumerate(paths):
        save(ir.from_proto(message(seed)), path, external=False)
    before = [path.read_bytes() for path in paths]
    assert saving.store_once(paths, "weights") == 0
    assert [path.read_bytes() for path in paths] == before

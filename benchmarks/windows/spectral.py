"""Fourier transforms and long convolutions: the operator, other forms, and what `optimize` takes.

    python benchmarks/windows/spectral.py forms [--seconds 2]
    python benchmarks/windows/spectral.py models FOLDER [--opsets 17,20,23]

`forms` times the forms of transforms and convolutions by themselves, each in a process of its own,
in alternating blocks, and compares their results with numpy's in float64. `models` exports FNet
(from its configuration in Transformers) and a gated long convolution (as in Hyena; random filters
that decay) with torch dynamo into `FOLDER`, runs `optimize` on them, and compares input and
artifact with each other and with PyTorch in float64. TorchScript exports none of these operators.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

import burnish
from burnish.optimizer import sandbox
from burnish.optimizer.contract import Choice, Context, relative_l2
from burnish.optimizer.measure import Contest, Entrant
from burnish.optimizer.sandbox import Limits
from burnish.passes.restructure.spectral.products import PRODUCTS
from burnish.passes.restructure.spectral.spectral import Spectral
from burnish.runtimes.arrays import write_arrays

STOPWATCH = "burnish.runtimes.work:stopwatch"
LIMITS = Limits(sandbox.default_memory(), 3600.0)
OPERATOR = "as it is"

LINES = [(512, 128), (512, 256), (512, 512), (512, 768), (512, 1024), (256, 2048), (128, 4096)]
SURFACES = [
    (8, 128, 128),
    (8, 128, 256),
    (4, 256, 512),
    (1, 512, 512),
    (1, 512, 768),
    (8, 512, 768),
]
FILTERS = [
    (8, 64, 128), (8, 64, 256), (1, 256, 512), (1, 256, 1024), (8, 256, 1024), (1, 128, 2048),
    (1, 128, 4096), (1, 64, 8192),
]  # fmt: skip
SHORT = [(1, 256, 1024)]
"""Convolutions whose filters are of 64 positions."""


def taking(form: str) -> Callable[..., Choice]:
    """A chooser that takes a form, where it is none products, where they are none the operator."""

    def choose(key: str, forms: Mapping[str, Any], rule: str) -> Choice:
        wanted = next(item for item in (form, PRODUCTS, OPERATOR) if item in forms)
        return Choice(wanted, 1.0, False)

    return choose


def context(choose: Callable[..., Choice]) -> Context:
    """What the pass may know."""
    return Context("cpu", LIMITS, {}, choose)


def in_forms(message: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    """A model in each form that its (last) place has; the operator first."""
    found: dict[str, None] = {OPERATOR: None, PRODUCTS: None}

    def note(key: str, forms: Mapping[str, Any], rule: str) -> Choice:
        if " few " not in key:
            found.update(dict.fromkeys(forms))
        return Choice(PRODUCTS if PRODUCTS in forms else rule, 1.0, False)

    Spectral().apply(ir.from_proto(message), context(note))
    models = {OPERATOR: message}
    for form in [form for form in found if form != OPERATOR]:
        model = ir.from_proto(message)
        Spectral().apply(model, context(taking(form)))
        models[form] = ir.to_proto(model)
    return models


def compared(
    models: dict[str, onnx.ModelProto],
    feed: dict[str, np.ndarray],
    exact: np.ndarray,
    seconds: float,
) -> tuple[dict[str, tuple[float, float]], dict[str, float]]:
    """Milliseconds and times faster than the operator, and relative errors, by form."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_arrays(folder / "feed", feed)
        entrants, errors = {}, {}
        for index, (form, message) in enumerate(models.items()):
            path = folder / f"{index}.onnx"
            onnx.save(message, path)
            entrants[form] = Entrant(path, folder / "feed")
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            errors[form] = relative_l2(exact, session.run(None, feed)[0].astype(np.float64))
            del session
        with Contest(STOPWATCH, LIMITS) as contest:
            timings = contest.compare(entrants, seconds, 0.04)
    first = next(iter(timings.values()))
    times = {form: (item.candidate_ms, item.speedup) for form, item in timings.items()}
    return {OPERATOR: (first.baseline_ms, 1.0)} | times, errors


def line(
    name: str, models: dict[str, onnx.ModelProto], feed: Any, exact: Any, seconds: float
) -> str:
    """A row of the table of forms; the fastest is in bold."""
    times, errors = compared(models, feed, exact, seconds)
    best = max(times, key=lambda form: times[form][1])
    cells = [
        f"{'**' * (form == best)}{form} {ms:.2f}{'**' * (form == best)}"
        for form, (ms, _) in times.items()
        if form != OPERATOR
    ]
    return (
        f"| {name} | {times[OPERATOR][0]:.2f} | {', '.join(cells)} | {times[best][1]:.1f} "
        f"| {errors[OPERATOR]:.1e} | {errors[best]:.1e} |"
    )


class Builder:
    """A model of the input `x` in the making."""

    def __init__(self, *shape: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shape = shape

    def op(self, kind: str, *inputs: str, **attributes: int) -> str:
        """The output of a new node."""
        name = f"value{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def number(self, array: Any, kind: type = np.int64) -> str:
        """A constant."""
        name = f"constant{len(self.weights)}"
        self.weights.append(onnx.numpy_helper.from_array(np.asarray(array, kind), name))
        return name

    def message(self, result: str) -> onnx.ModelProto:
        """The model."""
        port = onnx.helper.make_tensor_value_info
        inputs = [port("x", onnx.TensorProto.FLOAT, self.shape)]
        outputs = [port(result, onnx.TensorProto.FLOAT, None)]
        graph = onnx.helper.make_graph(self.nodes, "place", inputs, outputs, self.weights)
        opset = [onnx.helper.make_opsetid("", 20)]
        model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
        return onnx.shape_inference.infer_shapes(model, data_prop=True)


def transforms(shape: tuple[int, ...]) -> tuple[onnx.ModelProto, Callable[..., np.ndarray]]:
    """Squared magnitudes of half the spectrum of rows; of surfaces the real part of both."""
    b = Builder(*shape)
    value = b.op("Unsqueeze", "x", b.number([-1]))
    if len(shape) == 3:
        for axis in (2, 1):
            value = b.op("DFT", value, "", b.number(axis))
        return b.message(b.op("Gather", value, b.number(0), axis=-1)), lambda x: np.fft.fft2(x).real
    value = b.op("DFT", value, "", b.number(1), onesided=1)
    parts = [b.op("Gather", value, b.number(part), axis=-1) for part in (0, 1)]
    squares = [b.op("Mul", part, part) for part in parts]
    return b.message(b.op("Add", *squares)), lambda x: np.abs(np.fft.rfft(x)) ** 2


def convolution(
    shape: tuple[int, int, int], lags: int
) -> tuple[onnx.ModelProto, Callable[..., np.ndarray]]:
    """`irfft(rfft(x, 2n) * rfft(h, 2n))[..., :n]` with random filters of so many lags."""
    b, (_, channels, n) = Builder(*shape), shape
    h = np.zeros((channels, 2 * n))
    h[:, :lags] = np.random.default_rng(1).standard_normal((channels, lags))
    spectrum = np.fft.rfft(h)
    last, zero, one, two = (b.number([item]) for item in (-1, 0, 1, 2))
    length, axis = b.number(2 * n), b.number(2)
    padded = b.op("Unsqueeze", b.op("Pad", "x", b.number([0, 0, 0, 0, 0, n])), last)
    wide = b.op("DFT", padded, length, axis, onesided=1)
    a, c = b.op("Slice", wide, zero, one, last), b.op("Slice", wide, one, two, last)
    d, e = (b.number(part[..., None], np.float32) for part in (spectrum.real, spectrum.imag))
    real = b.op("Sub", b.op("Mul", a, d), b.op("Mul", c, e))
    imaginary = b.op("Add", b.op("Mul", a, e), b.op("Mul", c, d))
    product = b.op("Concat", real, imaginary, axis=-1)
    back = b.op("DFT", product, length, axis, onesided=1, inverse=1)
    bare = b.op("Squeeze", b.op("Slice", back, zero, one, last), last)
    message = b.message(b.op("Slice", bare, zero, b.number([n]), last))
    return message, lambda x: np.fft.irfft(np.fft.rfft(x, 2 * n) * spectrum)[..., :n]


def forms(seconds: float) -> Iterator[str]:
    """The tables of forms, line by line."""
    random = np.random.default_rng(0)
    places: list[tuple[str, tuple[int, ...], Any]] = [
        *(("rows", shape, transforms(shape)) for shape in LINES),
        *(("surfaces", shape, transforms(shape)) for shape in SURFACES),
        *(("convolutions", shape, convolution(shape, shape[-1])) for shape in FILTERS),
        *(("convolutions, 64 lags", shape, convolution(shape, 64)) for shape in SHORT),
    ]
    yield "| place | operator ms | other forms, ms | times faster | error, operator | error |"
    yield "|---|---|---|---|---|---|"
    for kind, shape, (message, function) in places:
        x = random.standard_normal(shape).astype(np.float32)
        exact = function(x.astype(np.float64))
        name = f"{kind} {'x'.join(map(str, shape))}"
        yield line(name, in_forms(message), {"x": x}, exact, seconds)


def modules() -> dict[str, tuple[Any, Any, bool]]:
    """Modules with sample inputs, and whether the axis of positions may be free."""
    import spectral_models as made

    return {
        "FNet-base (768, 3072), 4 layers, 512": (made.fnet(768, 4, 512), made.ids(512), False),
        "FNet-base, 4 layers, any length": (made.fnet(768, 4, 512), made.ids(512), True),
        "FNet (256, 1024), 4 layers, 512": (made.fnet(256, 4, 512), made.ids(512), False),
        "FNet (256, 1024), 4 layers, any length": (made.fnet(256, 4, 512), made.ids(512), True),
        "long convolution, 256 x 1024, 2 blocks": (
            made.Convolutions(256, 1024, 2), made.signal(1024, 256), False),
        "long convolution, 128 x 4096, 2 blocks": (
            made.Convolutions(128, 4096, 2), made.signal(4096, 128), False),
    }  # fmt: skip


def models(folder: Path, opsets: list[int]) -> Iterator[str]:
    """The table of models, line by line."""
    import torch

    heads = ("model", "set", "input ms", "artifact ms", "times faster", "input off", "artifact off")
    yield f"| {' | '.join(heads)} | apart |"
    yield "|---|---|---|---|---|---|---|---|"
    for index, (name, (module, x, free)) in enumerate(modules().items()):
        with torch.no_grad():
            wide = copy.deepcopy(module).double()
            exact = wide(x.double() if x.is_floating_point() else x).numpy()
        for opset in opsets:
            path = folder / f"spectral{index}-{opset}.onnx"
            if not path.exists():
                export(module, x, path, opset, free)
            target = path.with_suffix(".opt.onnx")
            shape = {"batch": x.shape[0], "sequence": x.shape[1]}
            result = burnish.optimize(str(path), output=str(target), shape=shape)
            latency = result.report["latency"]
            feed = {"x": x.numpy()}
            mine, theirs = (ran(item, feed) for item in (path, target))
            low, high = latency["ci95"]
            off = [relative_l2(exact, array) for array in (mine, theirs)]
            first, second, ratio = (
                latency[key] for key in ("baseline_ms", "optimized_ms", "speedup")
            )
            yield (
                f"| {name} | {opset} | {first:.1f} | {second:.1f} "
                f"| {ratio:.2f} ({low:.2f} to {high:.2f}) | {off[0]:.1e} | {off[1]:.1e} "
                f"| {relative_l2(mine, theirs):.1e} |"
            )


def ran(path: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    """The first output of a model."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, feed)[0]
    return result


def export(module: Any, x: Any, path: Path, opset: int, free: bool) -> None:
    """Write a module by torch dynamo; its batch is free, and so are its positions where asked."""
    import torch

    dims = {0: torch.export.Dim("batch")}
    if free:
        dims[1] = torch.export.Dim("sequence", max=x.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.cat([x, x]),), path, dynamo=True, opset_version=opset, verbose=False,
            input_names=["x"], output_names=["y"], dynamic_shapes=(dims,), external_data=False,
        )  # fmt: skip


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=("forms", "models"))
    parser.add_argument("folder", nargs="?", type=Path, default=Path("."))
    parser.add_argument("--seconds", type=float, default=2.0, help="for each place")
    parser.add_argument("--opsets", default="17,20,23")
    options = parser.parse_args()
    if options.table == "forms":
        lines = forms(options.seconds)
    else:
        options.folder.mkdir(parents=True, exist_ok=True)
        lines = models(options.folder, [int(item) for item in options.opsets.split(",")])
    for text in lines:
        print(text, flush=True)


if __name__ == "__main__":
    main()

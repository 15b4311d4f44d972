"""ONNX Runtime sessions: the user's (`Session`), and the work of the sandbox's children.

The functions with the signature `(argument, emit)` run inside a child of `sandbox.call`; they are
the only places that let ONNX Runtime look at a model during a compilation.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from burnish.optimizer.errors import ResourceLimit, UnsupportedModel, UsageError

Array = npt.NDArray[Any]
Emit = Callable[[dict[str, Any]], None]

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")


class Session:
    """A stock `InferenceSession` on one provider; see `interface.Runtime`.

    Raises:
        UsageError: where the provider asked for did not start (never a silent fall back).
        UnsupportedModel: where ONNX Runtime does not accept the model.
    """

    def __init__(
        self, path: Path, *, provider: str = "cpu", threads: int = 0, optimize: bool = True
    ) -> None:
        self._session = open_session(path, provider=provider, threads=threads, optimize=optimize)

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Array]
    ) -> list[Array]:
        """The outputs asked for (all where None), in order."""
        results: list[Array] = self._session.run(output_names, dict(input_feed))
        return results

    def get_inputs(self) -> Any:
        """The inputs, as `InferenceSession.get_inputs` gives them."""
        return self._session.get_inputs()

    def get_outputs(self) -> Any:
        """The outputs, as `InferenceSession.get_outputs` gives them."""
        return self._session.get_outputs()

    def close(self) -> None:
        """Free the session; a second call does nothing."""
        self._session = None


def open_session(
    path: Path, *, provider: str = "cpu", threads: int = 0, optimize: bool = True
) -> Any:
    """An `InferenceSession` that really is on the provider asked for."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimize:
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_DISABLE_ALL
    if threads:
        options.intra_op_num_threads = threads
    wanted = PROVIDERS[provider]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[wanted])
    except Exception as error:  # the binding raises types of its own for each status code
        if wanted != PROVIDERS["cpu"] and "provider" in str(error).lower():
            raise _not_started(provider, str(error)) from None
        raise explain(error) from None
    if session.get_providers()[0] != wanted:
        raise _not_started(provider, "its libraries did not load")
    return session


def _not_started(provider: str, reason: str) -> UsageError:
    return UsageError(
        f"the {provider} provider did not start: {_one_line(reason)}", hint="--provider cpu"
    )


def explain(error: Exception) -> Exception:
    """ONNX Runtime's failure in our terms."""
    text = _one_line(str(error))
    if any(sign in str(error) for sign in ("bad_alloc", "Failed to allocate", "MemoryError")):
        return ResourceLimit("the memory limit was reached", hint="--memory-limit")
    return UnsupportedModel(f"ONNX Runtime does not accept it: {text}")


def _one_line(text: str) -> str:
    # The file may be one of ours, which means nothing to the user.
    text = re.sub(r"Load model from .*? failed:\s*", "", text)
    start = text.rfind("] : ")
    text = " ".join(text.split())
    if start < 0 and " : " in text:
        text = text.split(" : ", 3)[-1]
    return text[:240]


def versions() -> dict[str, str]:
    """Installed versions of ONNX Runtime's distributions, ONNX and ourselves."""
    found = {}
    for name in (*DISTRIBUTIONS, "onnx", "onnx-ir", "onnxscript", "onnxsim", "numpy", "burnish"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def several_distributions() -> list[str]:
    """The ONNX Runtime distributions that overwrite each other here; empty where all is well."""
    found = [name for name in DISTRIBUTIONS if name in versions()]
    return found if len(found) > 1 else []


def execute(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Do jobs in order; each opens a model and runs it on feeds, optimizations off unless asked.

    A job holds `path`, `provider`, `optimize`, `feeds` (one list of folders per run, merged, of
    which the model takes the inputs it has) and `results` (the folder that gets one folder of
    outputs per run). A later job may read what an earlier one wrote. A job without feeds is a
    check that ONNX Runtime accepts the model.

    Returns:
        `jobs`: for each one `error` (the model is not accepted) and `failed` (by run, why).
    """
    reports = []
    for job in argument["jobs"]:
        report: dict[str, Any] = {"error": "", "failed": {}}
        reports.append(report)
        try:
            session = open_session(
                Path(job["path"]),
                provider=job["provider"],
                optimize=job.get("optimize", False),
                threads=argument.get("threads", 0),
            )
        except UnsupportedModel as error:
            report["error"] = error.message
            continue
        inputs = {item.name for item in session.get_inputs()}
        names = [output.name for output in session.get_outputs()]
        for index, folders in enumerate(job["feeds"]):
            if not all(Path(folder).is_dir() for folder in folders):
                report["failed"][str(index)] = "the run that makes its feed failed"
                continue
            arrays: dict[str, Array] = {}
            for folder in folders:
                arrays |= read_arrays(Path(folder))
            feed = {name: array for name, array in arrays.items() if name in inputs}
            try:
                outputs = session.run(names, feed)
            except Exception as error:  # the binding raises a type of its own per status code
                reason = explain(error)
                if isinstance(reason, ResourceLimit):
                    raise reason from None
                report["failed"][str(index)] = str(reason)
                continue
            write_arrays(Path(job["results"]) / str(index), dict(zip(names, outputs, strict=True)))
    return {"jobs": reports}


def stopwatch(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Time blocks of runs on command, one line on standard input each: `PATH FEEDS RUNS`.

    Opens a session when the path changes, and reports the seconds of each run.
    """
    current, session, feeds = "", None, {}
    for line in sys.stdin:
        order = json.loads(line)
        if order["path"] != current:
            session = None
            session = open_session(
                Path(order["path"]), provider=order["provider"], threads=order["threads"]
            )
            feeds = read_arrays(Path(order["feeds"]))
            current = order["path"]
        seconds = []
        assert session is not None
        for _ in range(order["runs"]):
            start = time.perf_counter()
            try:
                session.run(None, feeds)
            except Exception as error:  # the binding raises a type of its own per status code
                raise explain(error) from None
            seconds.append(time.perf_counter() - start)
        emit({"seconds": seconds})
    return {}


def _plain(array: Any) -> Array:
    """Sequences of arrays, as Split or control flow give, end to end; strings without objects."""
    if array is None:  # an optional without a value
        return np.zeros(0)
    if isinstance(array, list):
        return np.concatenate([_plain(item).ravel() for item in array])
    plain: Array = array.astype(str) if array.dtype == object else array
    return plain


def write_arrays(folder: Path, arrays: Mapping[str, Array]) -> None:
    """Store arrays as `.npy` files with an index of their names (names may hold any character)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "names.json").write_text(json.dumps(list(arrays)))
    for index, array in enumerate(arrays.values()):
        np.save(folder / f"{index}.npy", _plain(array), allow_pickle=False)


def read_arrays(folder: Path) -> dict[str, Array]:
    """What `write_arrays` stored."""
    names = json.loads((folder / "names.json").read_text())
    return {
        name: np.load(folder / f"{index}.npy", allow_pickle=False)
        for index, name in enumerate(names)
    }

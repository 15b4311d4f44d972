"""ONNX Runtime sessions that really are on the provider asked for."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.optimizer.errors import ResourceLimit, UnsupportedModel, UsageError
from burnish.runtimes.arrays import Array

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
RECORD = "session.record_ep_graph_assignment_info"
"""Key of the session's configuration that lets it remember which provider took which node."""

DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")


REMEDIES = {
    "is not a registered function/op": "an export in standard operators",
    "No Op registered for": "an export in standard operators",
    "Could not find an implementation": "another --provider, or an export in float32",
}
"""What to do where ONNX Runtime lacks an operator, by what it says then."""


class Session:
    """A stock `InferenceSession` on one provider; see `interface.Runtime`.

    Raises:
        UsageError: where the provider asked for did not start (never a silent fall back).
        UnsupportedModel: where ONNX Runtime does not accept the model.
    """

    def __init__(
        self,
        path: Path,
        *,
        provider: str = "cpu",
        threads: int = 0,
        optimize: bool = True,
        runs: bool = True,
    ) -> None:
        self._session = open_session(
            path, provider=provider, threads=threads, optimize=optimize, runs=runs
        )
        self._provider = provider

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

    def fallen(self) -> list[tuple[str, int]] | None:
        """See `interface.Runtime`; releases before 1.24 do not tell."""
        if self._provider == "cpu":
            return []
        told = getattr(self._session, "get_provider_graph_assignment_info", None)
        return None if told is None else fallen(told(), self._provider)

    def close(self) -> None:
        """Free the session; a second call does nothing."""
        self._session = None


def open_session(
    path: Path | bytes,
    *,
    provider: str = "cpu",
    threads: int = 0,
    optimize: bool = True,
    runs: bool = True,
) -> Any:
    """An `InferenceSession` that really is on the provider asked for, of a file or its content.

    One that never `runs` plans no reuse of memory, which takes four times as long for twice the
    nodes.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimize:
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_DISABLE_ALL
    options.enable_mem_reuse = runs
    if threads:
        options.intra_op_num_threads = threads
    wanted = PROVIDERS[provider]
    if provider != "cpu":
        options.add_session_config_entry(RECORD, "1")
    try:
        model = path if isinstance(path, bytes) else str(path)
        session = onnxruntime.InferenceSession(model, options, providers=[wanted])
    except Exception as error:  # the binding raises types of its own for each status code
        if wanted != PROVIDERS["cpu"] and "provider" in str(error).lower():
            raise _not_started(provider, str(error)) from None
        raise explain(error) from None
    if session.get_providers()[0] != wanted:
        raise _not_started(provider, "its libraries did not load")
    return session


def fallen(assigned: Iterable[Any], provider: str) -> list[tuple[str, int]]:
    """Operators with nodes that were not given to a provider, and how many, most first.

    `assigned` is what `InferenceSession.get_provider_graph_assignment_info` gives.
    """
    counts = Counter(
        node.op_type
        for part in assigned
        if part.ep_name != PROVIDERS[provider]
        for node in part.get_nodes()
    )
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _not_started(provider: str, reason: str) -> UsageError:
    return UsageError(
        f"the {provider} provider did not start: {_one_line(reason)}", hint="--provider cpu"
    )


def explain(error: Exception) -> Exception:
    """ONNX Runtime's failure in our terms."""
    text = _one_line(str(error))
    if any(sign in str(error) for sign in ("bad_alloc", "Failed to allocate", "MemoryError")):
        return ResourceLimit("the memory limit was reached", hint="--memory-limit")
    hint = next((hint for sign, hint in REMEDIES.items() if sign in str(error)), "")
    return UnsupportedModel(f"ONNX Runtime does not accept it: {text}", hint=hint)


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
    return installed(
        (*DISTRIBUTIONS, "onnx", "onnx-ir", "onnxscript", "onnxsim", "numpy", "burnish")
    )


def installed(distributions: Iterable[str]) -> dict[str, str]:
    """The versions of those distributions that are installed."""
    found = {}
    for name in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def several_distributions() -> list[str]:
    """The ONNX Runtime distributions that overwrite each other here; empty where all is well."""
    found = [name for name in DISTRIBUTIONS if name in versions()]
    return found if len(found) > 1 else []

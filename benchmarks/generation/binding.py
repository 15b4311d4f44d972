"""Handing caches from run to run on a processor: arrays, ONNX Runtime's values, or bound ones.

    python benchmarks/generation/binding.py [--caches 8] [--positions 4000] [--rounds 9]

A model of nothing but caches of 8 heads of 64, each of which gets longer by one position, takes ten
steps with one thread; processor time of a step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

STEPS = 10
HEADS, SIZE = 8, 64

Way = Callable[[Any, list[Any], Any], list[Any]]
"""A step: a session, the caches and what is added; the longer caches."""


def model(count: int) -> bytes:
    """`out_N` is `in_N` with one more position."""
    shape = [1, HEADS, None, SIZE]
    ports = [
        [
            helper.make_tensor_value_info(f"{kind}_{n}", TensorProto.FLOAT, shape)
            for n in range(count)
        ]
        for kind in ("in", "out")
    ]
    new = helper.make_tensor_value_info("new", TensorProto.FLOAT, [1, HEADS, 1, SIZE])
    nodes = [
        helper.make_node("Concat", [f"in_{n}", "new"], [f"out_{n}"], axis=2) for n in range(count)
    ]
    graph = helper.make_graph(nodes, "caches", [*ports[0], new], ports[1])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def arrays(session: Any, caches: list[Any], new: Any) -> list[Any]:
    """`run`."""
    feeds = {f"in_{n}": cache for n, cache in enumerate(caches)}
    return list(session.run(None, {**feeds, "new": new}))


def values(session: Any, caches: list[Any], new: Any) -> list[Any]:
    """`run_with_ort_values`."""
    feeds = {f"in_{n}": _value(cache) for n, cache in enumerate(caches)}
    return list(session.run_with_ort_values(None, {**feeds, "new": _value(new)}))


def bound(session: Any, caches: list[Any], new: Any) -> list[Any]:
    """`run_with_iobinding`."""
    binding = session.io_binding()
    binding.bind_cpu_input("new", new)
    for n, cache in enumerate(caches):
        binding.bind_ortvalue_input(f"in_{n}", _value(cache))
        binding.bind_output(f"out_{n}", "cpu")
    session.run_with_iobinding(binding)
    return list(binding.get_outputs())


def _value(cache: Any) -> Any:
    if isinstance(cache, onnxruntime.OrtValue):
        return cache
    return onnxruntime.OrtValue.ortvalue_from_numpy(cache)


def main() -> None:
    """Build, time in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--caches", type=int, default=8)
    parser.add_argument("--positions", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model(arguments.caches), options, providers=["CPUExecutionProvider"]
    )
    shape = (1, HEADS, arguments.positions, SIZE)
    first = [np.ones(shape, np.float32) for _ in range(arguments.caches)]
    new = np.ones((1, HEADS, 1, SIZE), np.float32)
    given = arrays(session, first, new)[0]
    print(f"arrays own what they hold: {given.flags.owndata}")
    ways: tuple[Way, ...] = (arrays, values, bound)
    found: dict[str, list[float]] = {str(way.__doc__): [] for way in ways}
    for _ in range(arguments.rounds):
        for way in ways:
            caches: list[Any] = list(first)
            start = time.process_time()
            for _ in range(STEPS):
                caches = way(session, caches, new)
            found[str(way.__doc__)].append((time.process_time() - start) / STEPS)
    print("| way | ms for a step | least |")
    print("|---|---|---|")
    for name, seconds in found.items():
        print(f"| {name} | {1e3 * statistics.median(seconds):.3f} | {1e3 * min(seconds):.3f} |")


if __name__ == "__main__":
    main()

"""The shortest time of each node of a model, which other work on the machine disturbs least."""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime


def shortest(path: Path, feed: dict[str, np.ndarray], runs: int = 30) -> Counter[str]:
    """Milliseconds of the nodes by operator, of each node its shortest."""
    with tempfile.TemporaryDirectory() as folder:
        settings = onnxruntime.SessionOptions()
        settings.enable_profiling, settings.profile_file_prefix = True, f"{folder}/profile"
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        for _ in range(runs):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    best: dict[tuple[str, str], float] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            key = (event["args"]["op_name"], event["name"])
            best[key] = min(event["dur"] / 1e3, best.get(key, math.inf))
    total: Counter[str] = Counter()
    for (operator, _), ms in best.items():
        total[operator] += ms
    return total

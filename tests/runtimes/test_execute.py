"""What becomes of the jobs of an executor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from burnish.runtimes.arrays import write_arrays
from burnish.runtimes.work import execute

SEQUENCE = """
<ir_version: 10, opset_import: ["" : 18]>
split (float[2] x) => (seq(float[1]) y)
{
  y = SplitToSequence <axis = 0> (x)
}
"""


def test_a_result_that_is_no_tensor_is_said(tmp_path: Path) -> None:
    path, feed = tmp_path / "model.onnx", tmp_path / "feed"
    onnx.save(onnx.parser.parse_model(SEQUENCE), path)
    write_arrays(feed, {"x": np.ones(2, np.float32)})
    job: dict[str, Any] = {"path": str(path), "provider": "cpu", "feeds": [[str(feed)]]}
    job["results"] = str(tmp_path / "results")
    (report,) = execute({"jobs": [job], "threads": 1}, lambda event: None)["jobs"]
    assert report == {"error": "", "failed": {"0": "y is no tensor"}, "fallen": []}

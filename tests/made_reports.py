"""Reports that nobody compiled: as large, as full and as hostile as a test wants them."""

from __future__ import annotations

from typing import Any

HOSTILE = (
    '<script>alert("1")</script>\'"><img src=x onerror=alert(2)>'
    "\u202egnp.exe\x00\x1b[31m & {{ 7*7 }}"
)
"""What a model may call anything."""

KEPT = (
    ("inline-functions", "recover", "exact", 0.0, 1.0, 0),
    ("attention", "recover", "rounding", 3.1e-7, 1.04, 0),
    ("layer-norm", "recover", "rounding", 2.2e-7, 1.05, 0),
    ("merge-projections", "restructure", "rounding", 1.9e-7, 1.12, 0),
    ("fold-affine", "restructure", "rounding", 4.0e-7, 1.13, -200_000),
    ("int8", "compress", "lossy", 8.3e-3, 2.35, -68_000_000),
    ("attention-form", "lower", "rounding", 6.4e-7, 2.47, 0),
    ("activation-form", "lower", "rounding", 5.5e-7, 2.44, 0),
)
"""Passes that changed something: error, speed of the whole model after it, change in bytes."""

IDLE = ("onnxsim", "clean", "gelu", "rotary", "linear", "spectral", "sparse-weights", "packing")

BYTES, BASE_MS = 90_900_000, 122.1


def _mask(kind: str, cells: int = 32) -> list[str]:
    seen = {
        "causal": lambda q, k: k <= q,
        "window": lambda q, k: abs(q - k) <= 5,
        "full": lambda q, k: True,
    }[kind]
    return ["".join("01"[seen(q, k)] for k in range(cells)) for q in range(cells)]


def _attention(name: str, mask: str, kind: str) -> dict[str, Any]:
    rows = _mask(kind)
    return {
        "node": name, "operator": "Attention", "heads": 12, "kv_heads": 12, "head_size": 64,
        "scale": 0.125, "softcap": None, "mask": mask,
        "picture": {"queries": 128, "keys": 128, "rows": rows, "padding": ["attention_mask"],
                    "biased": False},
    }  # fmt: skip


def _passes(layers: int, name: str) -> list[dict[str, Any]]:
    steps, size, nodes = [], BYTES, 285
    for index, (step, phase, promise, error, _, delta) in enumerate(KEPT):
        size, nodes = size + delta, nodes - 8
        refusals = [
            {"node": f"/layers.{layer}/{name}", "reason": f"not faster (0.{80 + layer % 19} times)"}
            for layer in range(layers * (index % 3))
        ]  # fmt: skip
        refusals += [{"node": f"{name}.{index}", "reason": f"its scale is not constant: {name}"}]
        steps.append(
            {
                "name": step, "phase": phase, "options": {}, "status": "kept", "reason": "",
                "rewrites": 12 + index, "refusals": refusals, "promise": promise, "error": error,
                "seconds": 1.25, "speedup": 1.2 if phase == "lower" else None,
                "detail": f"{index} places, {name}", "nodes": nodes, "bytes": size,
            }
        )  # fmt: skip
    for step in IDLE:
        steps.append(
            {
                "name": step, "phase": "lower", "options": {}, "status": "unchanged", "reason": "",
                "rewrites": 0, "refusals": [], "promise": "exact", "error": None, "seconds": 0.1,
                "speedup": None, "detail": "", "nodes": nodes, "bytes": size,
            }
        )  # fmt: skip
    broken = {"status": "rejected", "reason": f"promised exact, but {name} differs by 0.1"}
    steps.append(steps[-1] | {"name": "hoist-constants"} | broken)
    return steps


def _profile(layers: int) -> dict[str, Any]:
    stages = [
        {
            "pass": index, "speedup": speed, "ci95": [0.985 * speed, 1.015 * speed],
            "drop": 0.0, "rel_l2": max((item[3] for item in KEPT[: index + 1]), default=0.0),
        }
        for index, (*_, speed, _) in enumerate(KEPT)
    ]  # fmt: skip
    names = ["0", *(str(layer + 1) for layer in range(layers)), "head"]
    return {
        "stages": stages,
        "kernels": {
            side: {
                "runs": 20, "ms": 100 * scale,
                "operators": {"MatMul": 90 * scale, "Softmax": 7 * scale, "Add": 3 * scale},
                "layers": {
                    layer: scale * (4.2 + (number % 5) / 4) for number, layer in enumerate(names)
                },
            }
            for side, scale in (("before", 1.0), ("after", 0.41))
        },
        "reasons": [],
    }  # fmt: skip


def report(layers: int = 6, name: str = "/encoder") -> dict[str, Any]:
    """A report of the main job with everything that one can have; `name` is in every name."""
    passes = _passes(layers, name)
    return {
        "schema": 1,
        "input": {
            "path": f"models/{name}.onnx", "sha256": "ab" * 32, "bytes": BYTES + 4000,
            "nodes": 285, "opset": 17, "files": ["model.onnx"],
        },
        "output": {
            "path": f"models/{name}.int8.onnx", "sha256": "cd" * 32, "bytes": 22_900_000,
            "nodes": 221, "opset": 23, "files": ["model.int8.onnx"], "written": True,
        },
        "target": {
            "provider": "cpu", "device": f"A processor {name}", "threads": 2, "opset": 23,
            "versions": {"burnish": "0.1.0", "onnxruntime": "1.31.1", "python": "3.11.2"},
            "system": "Linux 6.1, x86_64", "least_onnxruntime": "1.23", "cpu": "native",
            "saturates": True, "fallen_back": [],
        },
        "signature": {"inputs": [], "outputs": []},
        "ports": [],
        "passes": passes,
        "recovered": {
            "attention": {
                "expected": layers, "found": layers - 1,
                "missed": [{"node": name, "nearest": "", "reason": name, "differs": ""}],
            },
            **{
                kind: {"expected": count, "found": count, "missed": []}
                for kind, count in (
                    ("normalization", 2 * layers + 1), ("activation", layers), ("rotary", 0),
                    ("linear", 6 * layers),
                )
            },
        },
        "fidelity": {
            "metric": f"first choices that changed in the worst group, {name},", "drop": 0.0042,
            "budget": 0.01, "feeds": f"on {name}.jsonl", "count": 256,
            "groups": {name: 0.0042, "de": 0.0031, "fr": 0.0012, "zh": 0.0007},
            "outputs": {
                name: {"rel_l2": 8.3e-3, "cosine": 0.99936, "max_abs": 0.12, "top1": 0.9958},
                "pooled": {"rel_l2": 2.1e-3, "cosine": 0.99991, "max_abs": 0.03},
            },
        },
        "over_budget": [],
        "options": {"int8": True, "max-drop": 0.02, "data": name},
        "latency": {
            "shape": {"batch": 8, "sequence": 128}, "baseline_ms": BASE_MS, "optimized_ms": 49.4,
            "speedup": 2.47, "ci95": [2.45, 2.49], "pairs": 24,
            "inputs": {name: [8, 128], "attention_mask": [8, 128]},
        },
        "padding": None,
        "memory": {
            "weights_bytes": passes[len(KEPT) - 1]["bytes"], "input_weights_bytes": BYTES,
            "compile_peak_rss_bytes": 812_000_000,
        },
        "warnings": [f"it has no tokenizer ({name})"],
        "providers": [],
        "precisions": _precisions(name),
        "operators": {
            "before": {"MatMul": 48, "Add": 97, "Reshape": 48, "Softmax": 6, name: 12},
            "after": {
                "com.microsoft.DynamicQuantizeMatMul": 36, "Add": 31, "Attention": 6,
                "LayerNormalization": 13, name: 12,
            },
        },
        "attentions": [
            _attention(
                f"{name}.{layer}",
                ("causal", f"window(left=64, right=64) & key_padding({name})")[layer % 2],
                ("causal", "window")[layer % 2],
            )
            for layer in range(layers)
        ],
        "layers": [
            {"layer": layer, "error": 1e-7 * (1 + number % 4) * 10 ** (number % 3), "pass": "int8"}
            for number, layer in enumerate(["0", *map(str, range(1, layers + 1)), "head"])
        ],
        "profile": _profile(layers),
    }  # fmt: skip


def _precisions(name: str) -> list[dict[str, Any]]:
    rows = (
        ("fp32", 0.0, 90_900_000, 118.0, 1.0), ("int8", 0.0042, 22_900_000, 49.4, 2.47),
        ("int4", 0.031, 13_100_000, 71.0, 1.66), ("int8-weights", 0.0006, 24_000_000, 69.0, 1.71),
    )  # fmt: skip
    told = [
        {
            "name": row, "drop": drop, "bytes": size, "ms": ms, "ratio": ratio,
            "ci95": None if row == "fp32" else [ratio - 0.02, ratio + 0.02],
            "chosen": row == "int8", "pareto": row != "int4", "path": None, "reason": "",
        }
        for row, drop, size, ms, ratio in rows
    ]  # fmt: skip
    empty = dict.fromkeys(("drop", "bytes", "ms", "ratio", "ci95", "path"))
    reason = f"cpu has no faster kernels for it, {name}"
    return [*told, empty | {"name": "fp16", "chosen": False, "pareto": False, "reason": reason}]


def searched() -> dict[str, Any]:
    """What a report has of a search in place of precisions."""
    rows = (
        ("int8-prune-0.30", 0.3, 0.0091, 16_100_000, 3.1), ("int8", 0.0, 0.0042, 22_900_000, 2.5),
        ("fp32", 0.0, 0.0, 90_900_000, 1.0), ("int8-prune-0.35", 0.35, None, None, None),
    )  # fmt: skip
    points = [
        {
            "name": name, "precision": name.split("-")[0], "low_rank": False, "prune": share,
            "options": "", "drop": drop, "bytes": size, "ms": ratio and 100 / ratio,
            "ratio": ratio, "ci95": ratio and [ratio - 0.02, ratio + 0.02], "known": False,
            "chosen": share == 0.3, "pareto": drop is not None, "path": None,
            "reason": "" if ratio else "0.35 of the layers loses 0.02, more than 0.0075",
        }
        for name, share, drop, size, ratio in rows
    ]  # fmt: skip
    search = {
        "speedup": 3.0, "max_drop": 0.01, "met": True, "reached": 3.1, "chosen": rows[0][0],
        "bound": "", "tried": 4, "known": 1,
    }  # fmt: skip
    return {"points": points, "search": search, "precisions": []}


NEWER = ("operators", "attentions", "layers", "profile")
"""What a report did not have at first."""

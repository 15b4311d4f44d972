"""How commands are used: examples for their help, and the panels that options are shown in.

Every example is parsed by the tests, and those on the model of the examples are run.
"""

from __future__ import annotations

PANELS = {
    "Precision": (
        "int8", "int4", "fp16", "precision", "static", "keep_embeddings", "kv_cache", "points",
        "force", "max_drop", "recipe", "print_recipe",
    ),
    "Less work": (
        "level", "pack", "window", "global_tokens", "layers", "prune", "importance",
        "low_rank", "fast_gelu", "sparsity", "mask", "sparse_storage",
    ),
    "Vocabulary": ("languages", "corpus", "keep_tokens", "keep_ids", "min_coverage"),
    "Where it runs": (
        "provider", "target", "threads", "shape", "cluster", "devices", "replicas", "wire",
        "straggler", "failures", "scatter", "rate", "tuning", "opset", "min_ort", "speedup",
        "max_latency_ratio", "max_size_ratio",
        "host", "port", "autoscale", "address", "ray",
    ),
    "What goes in": (
        "text", "file", "lines", "image", "data", "tokenizer", "task", "context", "classes",
        "against", "since", "optimized", "feeds", "allow_pickle", "trust_remote_code", "seed",
    ),
    "How texts are written": (
        "chat", "language", "max_new_tokens", "temperature", "top_k", "top_p", "min_p", "beams",
        "speculate", "repetition_penalty", "stop",
    ),
    "How a student learns": (
        "student", "minutes", "steps", "learning_rate", "batch_size", "patience", "optimizer",
        "logits", "hidden", "relations", "softening", "max_length", "resume",
    ),
    "What comes out": (
        "output", "write_cluster", "json_file", "html_file", "junit_file", "update", "dry_run",
        "quiet", "verbose", "debug",
    ),
    "Checks and limits": (
        "no_check", "no_measure", "memory_limit", "time_limit", "jobs", "batch", "wait", "queue",
    ),
}  # fmt: skip
"""Names of parameters by panel."""

PANEL_OF = {name: panel for panel, names in PANELS.items() for name in names}

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("optimize model.onnx --int8", "8 bits where that is measured faster"),
        ("optimize inspect model.onnx", "what it is, and what would help"),
        ("optimize run model.int8.onnx", "one run on made-up inputs"),
    ),
    "model": (
        ("optimize model.onnx", "the same function, faster"),
        ("optimize model.onnx --int8 --data texts.jsonl", "judged on your inputs"),
        ("optimize model.onnx --precision auto --points", "every good trade of time, size, loss"),
        (
            "optimize model.onnx --data texts.txt --speedup 3",
            "what it takes: bits, pruning",
        ),
        ("optimize model.onnx --no-measure --dry-run", "by rules; nothing is written"),
        ("optimize checkpoint-folder --int4 -o llm", "a checkpoint becomes a folder"),
    ),
    "inspect": (
        ("optimize inspect model.onnx", "architecture, work, memory, options"),
        ("optimize inspect model.onnx --shape batch=1,sequence=512", "at other sizes"),
        ("optimize inspect model.onnx --json - --quiet", "as data"),
        ("optimize inspect checkpoint-folder", "from config.json and headers; no torch"),
    ),
    "run": (
        ("optimize run model.onnx --shape batch=1,sequence=16", "made-up inputs"),
        ("optimize run tagger-folder --text 'Ada lived in London.'", "as its task is"),
        ("optimize run llm --text 'Once upon a time' --max-new-tokens 64", "a text goes on"),
    ),
    "serve": (
        ("optimize serve tagger-folder", "HTTP on this machine, batches, one replica"),
        ("optimize serve tagger-folder --address auto --autoscale 1:8", "on a Ray cluster"),
    ),
    "bench": (
        ("optimize bench model.onnx model.int8.onnx", "paired, with an interval"),
        ("optimize bench a.onnx b.onnx --shape batch=1,sequence=128", "at other sizes"),
    ),
    "compare": (
        ("optimize compare model.onnx model.int8.onnx", "outputs on the same inputs"),
        ("optimize compare model.onnx model.int8.onnx --max-drop 0.01", "exit 1 beyond that"),
    ),
    "evaluate": (
        ("optimize evaluate folder --data test.jsonl", "metrics of its task"),
        ("optimize evaluate folder.int8 --against folder --data test.jsonl", "and what changed"),
    ),
    "plan": (
        ("optimize plan model.onnx --cluster cluster.yaml", "how good a pipeline would be"),
        ("optimize plan model.onnx --cluster cluster.yaml -o stages", "its stages, checked"),
        ("optimize plan model.onnx --devices cpu:1,cpu:1 --wire int8", "this machine, measured"),
    ),
    "simulate": (
        ("optimize simulate model.onnx --cluster cluster.yaml", "throughput, latency, idle time"),
        (
            "optimize simulate model.onnx --cluster cluster.yaml --replicas 2 --failures 50000h,5m",
            "replicas that fail",
        ),
    ),
    "zoo": (
        ("optimize zoo models -o converted --int8", "every model below a folder"),
        ("optimize zoo zoo.yaml -o converted", "with options by pattern"),
        ("optimize zoo models -o new --since converted/zoo.json", "exit 1 where it got worse"),
    ),
    "check": (
        ("optimize check model.onnx --against baseline.json --update", "write the baseline"),
        ("optimize check model.onnx --against baseline.json", "exit 1 where it got worse"),
    ),
    "distill": (
        (
            "optimize distill model.onnx --student layers=2 --data texts.txt --minutes 10",
            "a part of it, trained",
        ),
        (
            "optimize distill model.onnx --student pruned.onnx --data texts.txt --steps 2000",
            "what pruning lost",
        ),
    ),
    "recipes": (
        ("optimize recipes", "those that are shipped"),
        ("optimize recipes cpu-int8", "what one says"),
    ),
    "report": (
        ("optimize report report.json", "a page beside it: report.html"),
        ("optimize report facts.json --html facts.html", "what inspect --json wrote"),
    ),
    "passes": (("optimize passes", "every pass, in order"),),
}
"""By command (the whole program's under an empty name): what to type, and what it does."""


def epilog(command: str) -> str:
    """The examples of a command, below its help."""
    rows = EXAMPLES[command]
    width = max(len(typed) for typed, _ in rows)
    lines = [f"  {typed:<{width}}  [dim]{told}[/dim]" for typed, told in rows]
    return "\n".join(["[bold]Examples[/bold]", *lines])

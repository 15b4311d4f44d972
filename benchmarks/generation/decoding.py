"""Decoding with 1.1 billion parameters: how near to the memory's speed, and to other loops.

    python benchmarks/generation/decoding.py FOLDER [--contexts 512,4096] [--rounds 3]
        [--weights "float32,int8"] [--loops "ours,plain loop"] [--genai PYTHON]

A checkpoint of Llama's shape with random weights is made in `FOLDER` where it is missing (22
layers of 2,048 features, 32 heads that share 4 keys), and compiled by `optimize` to float32, int8,
weights in blocks of 8 bits, and of 4. One row is a prompt of so many tokens and new ones behind it:

- ours: `burnish.load(ARTIFACT).generate`;
- ours, --kv-cache static: the same with caches that no run copies;
- plain loop: arrays from `Session.run` to `Session.run` of a stock session, the best token, and
  nothing else, on the same graph;
- export: the same loop on what the exporter wrote;
- PyTorch: `generate` in eager mode;
- genai: ONNX Runtime GenAI, with the model that its own builder makes of the checkpoint
  (`onnxruntime-genai`, in the environment of the interpreter given).

Each run is a process of its own, in turns. Rates are of the tokens after the first, medians of the
rounds. The limit is what a token has to read (weights but for the table of embeddings, caches) at
the rate at which two threads read memory, measured between the rounds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__)
sys.path.insert(0, str(FILE.parents[1] / "precision"))

OPTIMIZE = str(Path(sys.executable).with_name("optimize"))
LAYERS, GROUPS, SIZE, VOCABULARY = 22, 4, 64, 32000
MODELS = {
    "float32": ["--no-measure"],
    "int8": ["--int8"],
    "8-bit blocks": ["--precision", "int8-weights"],
    "4-bit blocks": ["--int4"],
}
BUILDER = {"float32": "fp32", "8-bit blocks": "int8", "4-bit blocks": "int4"}
"""What GenAI's builder calls a precision; it has no int8 products over the whole model."""
NEW = {512: 128}
NEW_BEHIND_LONG = 32


def make(folder: Path) -> None:
    """Write the checkpoint, with no token that ends a text."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=2048, intermediate_size=5632, num_hidden_layers=LAYERS, num_attention_heads=32,
        num_key_value_heads=GROUPS, vocab_size=VOCABULARY, max_position_embeddings=8192,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder, max_shard_size="2GB")
    # GenAI's builder asks for one; nothing here is text.
    words = {f"t{index}": index for index in range(VOCABULARY)}
    Tokenizer(models.WordLevel(words, unk_token="t0")).save(str(folder / "tokenizer.json"))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind))


def prepare(folder: Path, genai: str) -> None:
    """Make what `FOLDER` lacks."""
    checkpoint, export = folder / "llama", folder / "export"
    if not checkpoint.exists():
        make(checkpoint)
    common = ["--no-check", "--quiet"]
    if not export.exists():
        command = [OPTIMIZE, str(checkpoint), "-O0", "--no-measure", *common, "-o", str(export)]
        subprocess.run(command, check=True)
    shape = "batch=1,sequence_length=1,past_sequence_length=512,kept=1"
    for target, options in compiled(folder).items():
        if target.exists():
            continue
        target.mkdir()
        for file in export.glob("*.json"):
            shutil.copy(file, target)
        command = [OPTIMIZE, str(export / "model.onnx"), *options, *common, "--shape", shape]
        subprocess.run([*command, "-o", str(target / "model.onnx")], check=True)
    for precision in BUILDER.values() if genai else ():
        target = folder / f"genai-{precision}"
        if not target.exists():
            command = [genai, "-m", "onnxruntime_genai.models.builder", "-i", str(checkpoint)]
            subprocess.run(
                [*command, "-o", str(target), "-p", precision, "-e", "cpu"],
                check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip


def compiled(folder: Path) -> dict[Path, list[str]]:
    """Folders of artifacts, and the options that they are made with."""
    found = {}
    for name, options in MODELS.items():
        target = folder / name.replace(" ", "-")
        found[target] = options
        found[target.with_name(f"{target.name}-static")] = [*options, "--kv-cache", "static"]
    return found


def prompt_of(length: int) -> list[int]:
    """Tokens drawn at random."""
    return np.random.default_rng(0).integers(3, VOCABULARY, length).tolist()


def ours(folder: Path, prompt: list[int], new: int) -> tuple[list[int], float]:
    """New tokens, and seconds for those after the first."""
    from burnish.runtimes.generate import open_generator

    generator = open_generator(folder, threads=2)
    made = generator.generate(ids=[prompt], max_new_tokens=new, do_sample=False)
    return made.ids[0], made.seconds - made.first_seconds


def stock(folder: Path, prompt: list[int], new: int) -> tuple[list[int], float]:
    """By a plain loop over a stock session; see `ours`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 2, 4
    path = str(folder / "model.onnx")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    pasts = [port.name for port in session.get_inputs() if port.name.startswith("past")]
    names = ["logits", *(name.replace("past_key_values", "present") for name in pasts)]
    caches = {name: np.zeros((1, GROUPS, 0, SIZE), np.float32) for name in pasts}
    ids, last, made, start = np.array([prompt]), np.array([-1]), list[int](), 0.0
    mask = np.ones_like(ids)
    for _ in range(new):
        feeds = {"input_ids": ids, "attention_mask": mask, "logits_to_keep": last, **caches}
        logits, *grown = session.run(names, feeds)
        made.append(int(logits[0, -1].argmax()))
        ids, mask = np.array([[made[-1]]]), np.ones((1, mask.shape[1] + 1), np.int64)
        caches = dict(zip(caches, grown, strict=True))
        start = start or time.perf_counter()
    return made, time.perf_counter() - start


def pytorch(folder: Path, prompt: list[int], new: int) -> tuple[list[int], float]:
    """By PyTorch's `generate`; see `ours`."""
    import torch
    from transformers import LlamaForCausalLM

    torch.set_num_threads(2)
    model = LlamaForCausalLM.from_pretrained(folder).eval()
    times = list[float]()

    class Clock:
        def put(self, _: Any) -> None:
            times.append(time.perf_counter())

        def end(self) -> None:
            pass

    with torch.no_grad():
        made = model.generate(
            torch.tensor([prompt]), max_new_tokens=new, do_sample=False, pad_token_id=0,
            streamer=Clock(),
        )  # fmt: skip
    # The prompt is put first, then each token.
    return made[0, len(prompt) :].tolist(), times[-1] - times[1]


def genai(folder: Path, prompt: list[int], new: int) -> tuple[list[int], float]:
    """By ONNX Runtime GenAI; see `ours`."""
    import onnxruntime_genai

    model = onnxruntime_genai.Model(str(folder))
    parameters = onnxruntime_genai.GeneratorParams(model)
    parameters.set_search_options(max_length=len(prompt) + new, do_sample=False)
    generator = onnxruntime_genai.Generator(model, parameters)
    generator.append_tokens(prompt)
    generator.generate_next_token()
    start = time.perf_counter()
    for _ in range(new - 1):
        generator.generate_next_token()
    return generator.get_sequence(0)[len(prompt) :].tolist(), time.perf_counter() - start


STATIC = "ours, --kv-cache static"
LOOPS = {
    "ours": ours,
    STATIC: ours,
    "plain loop": stock,
    "export": stock,
    "PyTorch": pytorch,
    "genai": genai,
}

Row = tuple[str, str]
"""A precision and a loop."""


def entrants(folder: Path, other: str) -> dict[Row, tuple[str, Path]]:
    """The interpreter and the model of each row."""
    found: dict[Row, tuple[str, Path]] = {}
    for name in MODELS:
        target = folder / name.replace(" ", "-")
        found |= {(name, loop): (sys.executable, target) for loop in ("ours", "plain loop")}
        found[name, STATIC] = sys.executable, target.with_name(f"{target.name}-static")
        if other and name in BUILDER:
            found[name, "genai"] = other, folder / f"genai-{BUILDER[name]}"
        if name == "float32":
            found[name, "export"] = sys.executable, folder / "export"
            found[name, "PyTorch"] = sys.executable, folder / "llama"
    return found


def bytes_of(path: Path, context: int) -> int:
    """Bytes that a token has to read: weights but for tables that are looked up, and caches."""
    from decode import bytes_read

    return bytes_read(path, {}) + 2 * LAYERS * GROUPS * SIZE * 4 * context


def raced(rows: dict[Row, tuple[str, Path]], context: int, rounds: int) -> None:
    """Print the table of one context."""
    from decode import read_rate

    new = NEW.get(context, NEW_BEHIND_LONG)
    spent: dict[Row, list[float]] = {row: [] for row in rows}
    tokens: dict[Row, list[int]] = {}
    rates = list[float]()
    for _ in range(rounds):
        rates.append(read_rate())
        for row, (python, path) in rows.items():
            command = [python, str(FILE), str(path), "--child", row[1], str(context), str(new)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            tokens[row], seconds = json.loads(done.stdout.splitlines()[-1])
            spent[row].append(seconds / (new - 1))
    rate = statistics.median(rates)
    print(f"\n{new} tokens behind {context}; two threads read {rate / 1e9:.1f} GB/s\n")
    print("| weights | loop | tokens per second | least to most | of the plain loop's | ", end="")
    print("of the limit | tokens as ours |\n|---|---|---|---|---|---|---|")
    for (name, loop), seconds_of in spent.items():
        middle = statistics.median(seconds_of)
        of_plain = statistics.median(spent[name, "plain loop"]) / middle
        graph = rows[name, "plain loop"][1] / "model.onnx"
        limit = bytes_of(graph, context) / rate / middle
        same = sum(a == b for a, b in zip(tokens[name, loop], tokens[name, "ours"], strict=False))
        span = f"{1 / max(seconds_of):.2f} to {1 / min(seconds_of):.2f}"
        print(f"| {name} | {loop} | {1 / middle:.2f} | {span} | {of_plain:.3f} | ", end="")
        print(f"{limit:.2f} | {same} of {new} |", flush=True)


def main() -> None:
    """Build, compile, run in turns, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--contexts", default="512,4096")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", default=",".join(MODELS), help="of which precisions")
    parser.add_argument("--loops", default=",".join(LOOPS), help="of which rows")
    parser.add_argument("--genai", default="", help="an interpreter that has onnxruntime-genai")
    parser.add_argument("--child", nargs=3, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        loop, context, new = options.child
        print(json.dumps(LOOPS[loop](options.folder, prompt_of(int(context)), int(new))))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    prepare(options.folder, options.genai)
    rows = entrants(options.folder, options.genai)
    wanted = options.weights.split(","), options.loops.split(",")
    rows = {row: item for row, item in rows.items() if row[0] in wanted[0] and row[1] in wanted[1]}
    for context in options.contexts.split(","):
        raced(rows, int(context), options.rounds)


if __name__ == "__main__":
    main()

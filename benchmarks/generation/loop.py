"""Tokens per second: ours, a plain loop over a stock session, and PyTorch, with the same weights.

    python benchmarks/generation/loop.py [--size tiny|small|smollm] [--new 128] [--rounds 5]
        [--threads N] [--guesses 8] [--cost | --steps]

A decoder of Llama's kind with random weights is exported by the front end's wrappers, without
passes, so that the loops alone differ. The plain loop hands arrays from `Session.run` to
`Session.run`, takes the best token, and knows nothing else; PyTorch runs `generate`. Each is
opened, runs once to warm up, then generates from the same 64 tokens; in turn, one open at a time.
Rates are new tokens over all that a generation takes, medians of the rounds; every loop has to give
the same tokens. With `--threads 1` it is processor time, which other work on the machine leaves as
it is.

With `--cost` it is one thread, and what is reported is the processor time that the loop itself
takes for each token, outside of the session's runs. With `--steps`, how long runs with several
tokens take, against runs with one: so many guesses have to be right for them to pay.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import generating
import numpy as np
import onnxruntime
import torch
from generating import Model, artifact, built, prompts
from matrix.architectures import GROUPED, TEXT, plain

from burnish.runtimes.generate import open_generator
from burnish.runtimes.generate.decoder import Context

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {**TEXT, **GROUPED},
    "small": {
        **TEXT, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8,
        "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 32000,
    },
    "smollm": {
        **TEXT, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
    },
}  # fmt: skip

PROMPT = 64

Timed = tuple[list[int], float]
"""New tokens, and seconds."""

Clock = Callable[[], float]


def clock_of(threads: int) -> Clock:
    """Processor time of this thread where it is the only one, else the time that passes."""
    return time.thread_time if threads == 1 else time.perf_counter


def ours(folder: Path, threads: int, rows: list[list[int]], new: int, guesses: int) -> Timed:
    """By our loop, with the text."""
    clock = clock_of(threads)
    generator = open_generator(folder, threads=threads)
    generator.generate(ids=rows, max_new_tokens=8)
    start = clock()
    made = generator.generate(ids=rows, max_new_tokens=new, speculate=guesses)
    seconds = clock() - start
    generator.close()
    return made.ids[0], seconds


def stock(folder: Path, threads: int, rows: list[list[int]], new: int) -> Timed:
    """By a plain loop over a stock session."""
    session = _session(folder, threads)
    clock = clock_of(threads)
    _plain_loop(session, rows, 8)
    start = clock()
    made = _plain_loop(session, rows, new)
    return made, clock() - start


def _session(folder: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    path = str(folder / "model.onnx")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _plain_loop(session: Any, rows: list[list[int]], new: int) -> list[int]:
    pasts = [port for port in session.get_inputs() if port.name.startswith("past")]
    names = ["logits", *(port.name.replace("past_key_values", "present") for port in pasts)]
    caches = {
        port.name: np.zeros((1, port.shape[1], 0, port.shape[3]), np.float32) for port in pasts
    }
    ids, made = np.array(rows), list[int]()
    mask, last = np.ones_like(ids), np.array([-1])
    for _ in range(new):
        feeds = {"input_ids": ids, "attention_mask": mask, "logits_to_keep": last, **caches}
        logits, *grown = session.run(names, feeds)
        made.append(int(logits[0, -1].argmax()))
        ids, mask = np.array([[made[-1]]]), np.ones((1, mask.shape[1] + 1), np.int64)
        caches = dict(zip(caches, grown, strict=True))
    return made


def pytorch(model: Any, threads: int, rows: list[list[int]], new: int) -> Timed:
    """By PyTorch's `generate`."""
    if threads:
        torch.set_num_threads(threads)
    ids, clock = torch.tensor(rows), clock_of(threads)
    options = {"do_sample": False, "pad_token_id": 0}
    with torch.no_grad():
        model.generate(ids, max_new_tokens=8, **options)
        start = clock()
        made = model.generate(ids, max_new_tokens=new, **options)
    return made[0, len(rows[0]) :].tolist(), clock() - start


def raced(folder: Path, model: Any, arguments: argparse.Namespace) -> None:
    """Print the rate of each."""
    rows, new, threads = prompts((PROMPT,)), arguments.new, arguments.threads
    loops: dict[str, Callable[[], Timed]] = {
        "ours": lambda: ours(folder, threads, rows, new, 0),
        "stock loop": lambda: stock(folder, threads, rows, new),
        "PyTorch": lambda: pytorch(model, threads, rows, new),
    }
    if arguments.guesses:
        loops["ours, guessed"] = lambda: ours(folder, threads, rows, new, arguments.guesses)
    rates: dict[str, list[float]] = {name: [] for name in loops}
    tokens = {}
    for _ in range(arguments.rounds):
        for name, loop in loops.items():
            tokens[name], seconds = loop()
            rates[name].append(new / seconds)
    print("| loop | tokens per second | least to most | of the stock loop's | the same tokens |")
    print("|---|---|---|---|---|")
    for name, found in rates.items():
        ratio = statistics.median(a / b for a, b in zip(found, rates["stock loop"], strict=True))
        spread = f"{min(found):.1f} to {max(found):.1f}"
        same = "yes" if tokens[name] == tokens["stock loop"] else "no"
        rate = statistics.median(found)
        print(f"| {name} | {rate:.1f} | {spread} | {ratio:.3f} | {same} |")


class Timer:
    """A session that knows the processor time of its runs."""

    def __init__(self, session: Any) -> None:
        self.session, self.seconds = session, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def run(self, *arguments: Any) -> Any:
        """As the session's own."""
        start = time.thread_time()
        try:
            return self.session.run(*arguments)
        finally:
            self.seconds += time.thread_time() - start


def costs(folder: Path, arguments: argparse.Namespace) -> None:
    """Print what each loop takes for a token beside the runs."""
    rows, new = prompts((PROMPT,)), arguments.new
    generator = open_generator(folder, threads=1)
    silent = open_generator(folder, threads=1)
    silent.model = type(silent.model)(silent.model.decoder, None, None)
    found: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        for name, made in (("ours", generator), ("ours, tokens only", silent)):
            session: Any = made.model.decoder.session
            timer = session._session = Timer(getattr(session._session, "session", session._session))
            start = time.thread_time()
            made.generate(ids=rows, max_new_tokens=new)
            found.setdefault(name, []).append(time.thread_time() - start - timer.seconds)
        timer = Timer(_session(folder, 1))
        start = time.thread_time()
        _plain_loop(timer, rows, new)
        found.setdefault("stock loop", []).append(time.thread_time() - start - timer.seconds)
    print("| loop | microseconds for each token, beside the run | least |")
    print("|---|---|---|")
    for name, seconds in found.items():
        each = [1e6 * item / new for item in seconds]
        print(f"| {name} | {statistics.median(each):.1f} | {min(each):.1f} |")


def steps(folder: Path, arguments: argparse.Namespace) -> None:
    """Print what runs with several tokens take after 256."""
    generator = open_generator(folder, threads=arguments.threads)
    found: dict[int, list[float]] = {}
    for _ in range(arguments.rounds * 4):
        context = Context(generator.model.decoder, None, 1, 512)
        context.step(np.array(prompts((256,))))
        for count in (1, 2, 3, 5, 9, 17):
            start = time.perf_counter()
            context.step(np.array(prompts((count,))), count)
            found.setdefault(count, []).append(time.perf_counter() - start)
            context.cut(256)
    print("| tokens in a run | ms | times a run with one |")
    print("|---|---|---|")
    for count, seconds in found.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, found[1], strict=True))
        print(f"| {count} | {1e3 * statistics.median(seconds):.2f} | {ratio:.2f} |")


def main() -> None:
    """Build, race, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="small", choices=SIZES)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--guesses", type=int, default=0)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--steps", action="store_true")
    arguments = parser.parse_args()
    settings = {**SIZES[arguments.size], "max_position_embeddings": 2048}
    generating.MODELS["raced"] = Model(plain("LlamaForCausalLM", "LlamaConfig", **settings))
    model = built("raced")
    with tempfile.TemporaryDirectory() as folder:
        made = artifact("raced", Path(folder), model)
        if arguments.cost:
            costs(made, arguments)
        elif arguments.steps:
            steps(made, arguments)
        else:
            raced(made, model, arguments)


if __name__ == "__main__":
    main()

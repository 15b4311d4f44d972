"""Burnish beside other tools on three exports of MiniLM: what each needs, takes, gives and loses.

    python benchmarks/comparison/compare.py FOLDER [--tools NAME,...] [--exports NAME,...]

Each tool gets an environment of its own below `FOLDER/environments` with its current release, and
is run as its documentation says, told the best that there is to tell it (type of the model, heads,
width); `peers.py` has the commands. Where an environment cannot be made, or a command fails, the
table has the error. Results are judged by the same three: nodes and fused attentions from the file,
answers on 256 sentences against the input in ONNX Runtime without optimizations, and
`optimize bench` (paired, alternating, separate processes) at batch 8 x 128 against the input.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import venv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from peers import PEERS, Peer

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "examples")]

from decoder import watched  # noqa: E402
from export_minilm import EXPORTS, weights_folder  # noqa: E402
from minilm import SENTENCES, embeddings  # noqa: E402

FUSED = {"Attention", "MultiHeadAttention", "GroupQueryAttention", "QAttention"}
"""Attentions that are one operator."""

OPTIMIZE = [sys.executable, "-m", "burnish"]


@dataclass(frozen=True)
class Environment:
    """Where a tool is installed.

    Attributes:
        python: its interpreter.
        version: of the tool; empty where it could not be installed.
        error: why not.
    """

    python: Path
    version: str
    error: str = ""


def environment(peer: Peer, folder: Path) -> Environment:
    """The environment of a tool, made where it is missing."""
    home = folder / "environments" / peer.name
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", *peer.packages]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        return Environment(python, "", last_line(done.stderr))
    ask = f"from importlib.metadata import version; print(version({peer.packages[0]!r}))"
    told = subprocess.run([str(python), "-c", ask], capture_output=True, text=True)
    return Environment(python, told.stdout.strip())


def last_line(text: str) -> str:
    """The last line that says something, fit for a cell of a table."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "rror" in line] or lines
    return errors[-1].replace("|", "/")[:160] if errors else "no word"


def judged(before: Path, after: Path, texts: list[str], reference: np.ndarray) -> list[str]:
    """Nodes, fused attentions, size, speed and answers of a result, as cells."""
    message = onnx.load(after, load_external_data=False)
    operators = Counter(node.op_type for node in message.graph.node)
    fused = sum(operators[name] for name in FUSED)
    size = sum(file.stat().st_size for file in after.parent.glob(f"{after.name}*"))
    cells = [str(len(message.graph.node)), str(fused), f"{size / before.stat().st_size:.3f}"]
    try:
        answers = embeddings(after, texts)
    except Exception as error:  # the binding raises a type of its own per status code
        return [*cells, f"does not run: {last_line(str(error))}", "", ""]
    cosines = (reference * answers).sum(1)
    return [*cells, speed(before, after), f"{cosines.mean():.5f}", f"{cosines.min():.5f}"]


def speed(before: Path, after: Path) -> str:
    """Times faster than the input, with its 95 % interval."""
    command = [*OPTIMIZE, "bench", str(before), str(after), "--json", "-", "-q"]
    done = subprocess.run(
        [*command, "--shape", "batch=8,sequence=128"], capture_output=True, text=True
    )
    if done.returncode:
        return f"not timed: {last_line(done.stderr)}"
    facts = json.loads(done.stdout)["latency"][0]
    low, high = facts["ci95"]
    return f"{facts['speedup']:.2f} ({low:.2f} to {high:.2f})"


def reference_of(path: Path, texts: list[str]) -> np.ndarray:
    """What the input answers without any optimization."""
    plain = onnxruntime.InferenceSession

    def unoptimized(*arguments: object, **settings: object) -> object:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return plain(*arguments, options, **settings)

    onnxruntime.InferenceSession = unoptimized
    try:
        return embeddings(path, texts)
    finally:
        onnxruntime.InferenceSession = plain


def rows(peer: Peer, folder: Path, sources: list[Path], texts: list[str]) -> None:
    """Print a line for each export and each thing that the tool can be asked for."""
    home = Environment(Path(sys.executable), "this") if peer.here else environment(peer, folder)
    if home.error:
        print(f"| {peer.name} | | not installed: {home.error} |" + " |" * 9, flush=True)
        return
    for source in sources:
        reference = reference_of(source, texts)
        for asked, job in peer.jobs.items():
            work = folder / "results" / peer.name / f"{source.stem}-{asked}"
            work.mkdir(parents=True, exist_ok=True)
            for old in work.iterdir():
                if old.is_file():
                    old.unlink()
            target = work / "model.onnx"
            command = job.command(home.python, source, target, weights_folder())
            seconds, peak, code = watched(command, log=work / "log.txt")
            cells = [f"{peer.name} {home.version}", source.stem, asked, job.told or "nothing"]
            cells += [f"{seconds:.1f}", f"{peak:.2f}"]
            if code or not target.exists():
                said = last_line((work / "log.txt").read_text(errors="replace"))
                cells += [f"no result: {said}", "", "", "", "", ""]
            else:
                cells += judged(source, target, texts, reference)
            print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Export, install, run, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tools", default="")
    parser.add_argument("--exports", default="")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if not all((folder / f"{way.name}.onnx").exists() for way in EXPORTS):
        script = str(HERE.parents[1] / "examples" / "export_minilm.py")
        subprocess.run([sys.executable, script, str(folder)], check=True, capture_output=True)
    sources = [folder / f"{way.name}.onnx" for way in EXPORTS]
    if wanted := arguments.exports:
        sources = [path for path in sources if path.stem in wanted.split(",")]
    texts = SENTENCES.read_text("utf-8").splitlines()[:256]
    print(
        "| tool | export | asked for | told | seconds | peak GB | nodes | fused attentions | size "
        "| times faster | mean cosine | least |"
    )
    print("|" + "---|" * 12)
    for peer in PEERS:
        if not arguments.tools or peer.name in arguments.tools.split(","):
            rows(peer, folder, sources, texts)


if __name__ == "__main__":
    main()

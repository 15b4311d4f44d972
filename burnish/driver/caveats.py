"""What the user should know of a file and of this machine before anything is done."""

from __future__ import annotations

from burnish.driver import masking
from burnish.driver.request import Request
from burnish.optimizer.model import Loaded
from burnish.runtimes import onnxruntime as ort
from burnish.runtimes.targets import NATIVE

RANDOM = {
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
}  # fmt: skip
"""Operators whose results no comparison can hold anyone to."""


def caveats(loaded: Loaded, request: Request) -> list[str]:
    """Each as a sentence for the report's warnings."""
    found = []
    if (target := request.target_cpu) != NATIVE:
        choice = "the tuning record, else by rules" if request.tuning else "rules"
        found.append(
            f"compiled for {target} on another machine: forms were chosen by {choice}, and nothing "
            "was timed; `optimize bench` there says how much faster it is"
        )
    if loaded.overridable:
        found.append(
            f"{len(loaded.overridable)} initializers could be given as inputs as well "
            f"({loaded.overridable[0]} the first); they are constants now"
        )
    random = {node.op_type for node in loaded.model.graph.all_nodes()} & RANDOM
    if random:
        found.append(f"it holds random operators ({', '.join(sorted(random))}): no two runs agree")
    if request.sparsity:
        found.append(masking.caveat(request.sparsity, request.provider))
    if several := ort.several_distributions():
        found.append(
            f"{' and '.join(several)} are installed together and overwrite each other's files: "
            "uninstall both, then install one"
        )
    return found

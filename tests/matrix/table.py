"""The results as a page of Markdown: every cell, totals, and every miss with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from matrix.inputs import TRIALS
from matrix.isolation import Facts

KINDS = ("attention", "normalization", "activation", "rotary", "linear")
COUNTED = KINDS[:4]
"""The kinds that torch and the peer can be counted by, too."""

BOUND = 1e-4
"""Relative L2 error of the outputs that no cell may exceed."""

NOT_RUN = "not run"
"""Status of a peer that was not asked for."""

PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "onnxruntime-gpu")

Truths = Mapping[str, Mapping[str, int]]
"""Counts by kind of what torch computes, by architecture."""

HEAD = """# The matrix

Real architectures from their Transformers configurations, two layers with random weights, through
every exporter. Written by `make matrix`, with {versions}.

- A pair `found/expected` is what Burnish's report says of the export: expected are the marks that
  no spelling can do without (a softmax between two products of activations, a mean of squares
  under a root, ...), found those that are an operator of the recovered language.
- The peer is `onnxruntime.transformers.optimizer`, told the number of heads, with that of its
  {types} model types which leaves most attentions; its figures are operators in its result, with
  those that the exporter had written already.
- The error is the largest relative L2 distance of an output to that of the export, over {trials}
  inputs of several sizes and paddings; rows of padding that see no key have no defined answer.
- An exporter that fails is the exporter's cell and counts for neither tool.
"""


def render(
    exported: Sequence[Facts], results: Sequence[Facts], truths: Truths, **facts: Any
) -> str:
    """The page; `facts` are what its head names."""
    by_cell = {line["cell"]: line for line in results}
    parts = [
        HEAD.format(versions=_versions(), **facts),
        "## Totals\n",
        *_totals(results, truths),
        "\n## By exporter\n",
        *_by_exporter(exported, by_cell, truths),
        "\n## Cells\n",
        *_cells(exported, by_cell, truths),
        "\n## What was missed, and why\n",
        *(_misses(results) or ["Nothing."]),
        "\n## Exporters that failed\n",
        *[
            f"- {line['cell']}: {_plain(line['error'])}"
            for line in exported
            if line["status"] != "ok"
        ],
    ]
    return "\n".join(parts) + "\n"


def summary(line: Facts) -> str:
    """One result on one line."""
    mine, peer = line["ours"], line["peer"]
    if mine["status"] != "ok":
        return f"{mine['status']}: {mine['error']}"
    pairs = " ".join(f"{kind} {_pair(mine, kind)}" for kind in KINDS)
    return f"{pairs}, error {_error(mine)}; peer {_peer(peer)}, error {_error(peer)}"


def split(cell: str) -> tuple[str, str]:
    """Architecture and exporter of a cell."""
    name, *exporter = cell.rsplit("-", 3)
    return name, "-".join(exporter)


def failures(line: Facts) -> list[str]:
    """What a result breaks of the promise: an error, a crash, outputs too far away."""
    mine = line["ours"]
    if mine["status"] != "ok":
        return [f"Burnish {mine['status']}: {mine['error']}"]
    far = mine["worst"] is not None and mine["worst"] > BOUND
    return [f"outputs differ by {mine['worst']:.1e}"] if far else []


def misses(line: Facts) -> list[str]:
    """What the report of a cell says of every place of a kind that it did not recover."""
    lines = []
    for kind, counts in line["ours"].get("recovered", {}).items():
        for miss in counts.get("missed", ()):
            words = ", ".join(f"{key} {value}" for key, value in miss.items() if value)
            lines.append(f"{kind}: {words}")
        silent = counts["expected"] - counts["found"] - len(counts.get("missed", ()))
        if silent > 0:
            lines.append(f"{kind}: {silent} with no reason given")
    return lines


def _totals(results: Iterable[Facts], truths: Truths) -> Iterator[str]:
    done = [line for line in results if line["ours"]["status"] == "ok"]
    yield "| kind | found/expected | | by torch | peer, of those by torch | |"
    yield "|---|---:|---:|---:|---:|---:|"
    for kind in KINDS:
        found, expected = _sum(done, kind)
        yield f"| {kind} | {found}/{expected} | {_percent(found, expected)} |" + _others(
            done, kind, truths
        )
    bad = [line for line in results if failures(line)]
    crashed = sum(line["peer"]["status"] not in ("ok", NOT_RUN) for line in done)
    peers = [line["peer"] for line in done if line["peer"]["status"] == "ok"]
    wrong = sum("broken" in peer or (peer["worst"] or 0.0) > BOUND for peer in peers)
    yield ""
    yield (
        f"{len(done)} exports; the largest error is {_worst(done):.1e}; {len(bad)} break "
        f"the bound of {BOUND:g} or end with an error. The peer raises on {crashed}, and on "
        f"{wrong} more its result does not run or is further away than the bound."
    )


def _others(done: Sequence[Facts], kind: str, truths: Truths) -> str:
    if kind not in COUNTED:
        return " | | |"
    real = sum(truths[split(line["cell"])[0]][kind] for line in done)
    peer = sum(
        min(line["peer"]["found"][kind], truths[split(line["cell"])[0]][kind])
        for line in done
        if line["peer"]["status"] == "ok"
    )
    return f" {real} | {peer} | {_percent(peer, real)} |"


def _by_exporter(
    exported: Sequence[Facts], by_cell: Mapping[str, Facts], truths: Truths
) -> Iterator[str]:
    yield "| exporter | exports | failed | " + " | ".join(KINDS) + " | peer: attention | error |"
    yield "|---|---:|---:|" + "---:|" * (len(KINDS) + 2)
    for name in sorted({split(line["cell"])[1] for line in exported}, reverse=True):
        mine = [line for line in exported if split(line["cell"])[1] == name]
        failed = sum(line["status"] != "ok" for line in mine)
        lines = [by_cell[line["cell"]] for line in mine if line["cell"] in by_cell]
        done = [line for line in lines if line["ours"]["status"] == "ok"]
        pairs = " | ".join("{}/{}".format(*_sum(done, kind)) for kind in KINDS)
        peer = sum(
            line["peer"]["found"]["attention"] for line in done if line["peer"]["status"] == "ok"
        )
        real = sum(truths[split(line["cell"])[0]]["attention"] for line in done)
        yield (
            f"| {name} | {len(mine) - failed} | {failed} | {pairs} | {peer}/{real} "
            f"| {_worst(done):.1e} |"
        )


def _cells(
    exported: Sequence[Facts], by_cell: Mapping[str, Facts], truths: Truths
) -> Iterator[str]:
    yield (
        "| architecture | exporter | " + " | ".join(KINDS) + " | error "
        "| peer: attention, normalization, activation, rotary | peer's error | note |"
    )
    yield "|---|---|" + "---:|" * (len(KINDS) + 1) + "---|---:|---|"
    for line in sorted(exported, key=lambda line: split(line["cell"])[0]):
        name, exporter = split(line["cell"])
        start = f"| {name} | {exporter} |"
        result = by_cell.get(line["cell"])
        if line["status"] != "ok":
            yield start + " |" * len(KINDS) + " | | | the exporter fails |"
        elif result is None:
            yield start + " |" * len(KINDS) + " | | | not run |"
        else:
            mine, peer = result["ours"], result["peer"]
            pairs = " | ".join(_pair(mine, kind) for kind in KINDS)
            notes = "; ".join(_notes(line, result, truths[name]))
            yield (f"{start} {pairs} | {_error(mine)} | {_peer(peer)} | {_error(peer)} | {notes} |")


def _notes(exported: Facts, result: Facts, truth: Mapping[str, int]) -> Iterator[str]:
    yield from (_plain(text) for text in failures(result))
    mine, peer = result["ours"], result["peer"]
    if mine["status"] == "ok":
        for kind in COUNTED:
            expected = mine["recovered"].get(kind, {}).get("expected", truth[kind])
            if expected != truth[kind]:
                yield f"torch has {truth[kind]} of {kind}"
        for name, reason in mine["rejected"].items():
            yield f"{name} was rolled back: {_plain(reason)}"
        if mine["from_torch"] is not None and mine["from_torch"] > BOUND:
            yield f"the export itself differs from torch by {mine['from_torch']:.1e}"
    if mine.get("trials", len(TRIALS)) < len(TRIALS):
        yield f"the export itself runs on {mine['trials']} of the inputs"
    if exported["axes"] == "automatic":
        yield "dynamo chose the dynamic axes"
    if peer["status"] not in ("ok", NOT_RUN):
        yield f"peer: {_plain(peer['error'])}"
    elif "broken" in peer:
        yield f"peer's result: {_plain(peer['broken'])}"


def _misses(results: Iterable[Facts]) -> list[str]:
    """Misses of the same words together, with the cells that they are of."""
    cells: dict[str, list[str]] = {}
    for line in results:
        for text, count in Counter(misses(line)).items():
            times = f" ({count})" if count > 1 else ""
            cells.setdefault(text, []).append(f"{line['cell']}{times}")
    return [f"- {_plain(text)}: {', '.join(names)}" for text, names in sorted(cells.items())]


def _sum(lines: Iterable[Facts], kind: str) -> tuple[int, int]:
    counts = [line["ours"]["recovered"].get(kind, {}) for line in lines]
    found = sum(item.get("found", 0) for item in counts)
    return found, sum(item.get("expected", 0) for item in counts)


def _worst(lines: Iterable[Facts]) -> float:
    return max((line["ours"]["worst"] or 0.0 for line in lines), default=0.0)


def _pair(mine: Facts, kind: str) -> str:
    counts = mine.get("recovered", {}).get(kind)
    return f"{counts['found']}/{counts['expected']}" if counts else ""


def _error(facts: Facts) -> str:
    return f"{facts['worst']:.1e}" if facts.get("worst") is not None else ""


def _peer(peer: Facts) -> str:
    if peer["status"] != "ok":
        return peer["status"]
    return ", ".join(str(peer["found"][kind]) for kind in COUNTED) + f" ({peer['type']})"


def _percent(found: int, expected: int) -> str:
    return f"{100 * found / expected:.1f} %" if expected else ""


def _plain(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ").strip()


def _versions() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)

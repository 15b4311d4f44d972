"""What a model is made of, and where its work is, as lines of plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from burnish.optimizer.static_caches import BUFFER
from burnish.report.reasons import grouped, spanned

NAMES = {
    "attention": ("attention", "attentions"),
    "normalization": ("normalization", "normalizations"),
    "activation": ("activation", "activations"),
    "rotary": ("rotary embedding", "rotary embeddings"),
    "linear": ("linear layer", "linear layers"),
}
"""One and several of a kind."""

Refusals = Sequence[dict[str, Any]]
"""Places with their reasons, as the report has them."""


def left_lines(name: str, refusals: Refusals, verbose: bool = False) -> Iterator[str]:
    """What a pass left alone: a line for each reason, its places counted, or for each place."""
    for group in [[item] for item in refusals] if verbose else grouped(refusals):
        count = len(group)
        where = group[0]["node"] if count == 1 else f"{count} places, {group[0]['node']} the first"
        yield f"  {name} left {where}: {spanned(group)}"


def provider_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """What `--provider auto` chose from, a line for each."""
    for row in rows:
        if row["ms"] is not None:
            low, high = row["ci95"] or (row["ratio"], row["ratio"])
            facts = f"{row['ms']:.2f} ms, {row['ratio']:.2f} times ({low:.2f} to {high:.2f})"
        else:
            facts = row["reason"] or "not timed"
        chosen = " (chosen)" if row["chosen"] else ""
        yield f"provider {row['name']} {row['version']}{chosen}: {facts}"


def precision_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """What `--precision auto` chose from, a line for each; the fastest within the budget."""
    for row in rows:
        facts = [f"loss {row['drop']:.3g}"] if row["drop"] is not None else []
        facts += [f"{row['bytes'] / 1e6:.1f} MB"] if row["bytes"] is not None else []
        if row["ms"] is not None:
            low, high = row["ci95"] or (row["ratio"], row["ratio"])
            facts.append(f"{row['ms']:.2f} ms, {row['ratio']:.2f} times ({low:.2f} to {high:.2f})")
        marks = [name for name in ("chosen", "pareto") if row[name]]
        mark = f" ({', '.join(marks).replace('pareto', 'Pareto')})" if marks else ""
        written = f"written to {row['path']}" if row["path"] and not row["chosen"] else ""
        told = ", ".join(filter(None, [*facts, row["reason"], written]))
        yield f"precision {row['name']}{mark}: {told}"


def port_lines(ports: list[dict[str, str]]) -> Iterator[str]:
    """Which inputs and outputs have another type, or hold something else, than they did."""
    if not ports:
        return
    first, others = ports[0], len(ports) - 1
    if first["to"] == BUFFER:
        yield (
            f"ports: {first['name']} and {others} more: a past is a buffer of any capacity, whose "
            "unused positions the mask hides; a run gives its new positions only"
        )
    else:
        yield (
            f"ports: {first['name']} and {others} more are {first['to']} now, {first['from']} "
            "before; what a run gives is what the next one takes"
        )


def vocabulary_lines(facts: dict[str, Any] | None) -> Iterator[str]:
    """Which tokens are kept, and what that costs each language on sentences that were held out."""
    if facts is None:
        return
    kept = f"{facts['after']:,} of {facts['before']:,} tokens"
    if facts["cut"]:
        where = f", tokenizer {facts['tokenizer']}" if facts["tokenizer"] else ""
        yield f"vocabulary: {kept}, {'ids as they were' if facts['keep_ids'] else 'new ids'}{where}"
    else:
        yield f"vocabulary: whole; {kept} would be kept, but {facts['reason']}"
    for language, item in facts["languages"].items():
        yield (
            f"  {language}: {item['kept']:.2%} of {item['tokens']:,} tokens kept, all of them in "
            f"{item['whole']:.1%} of {item['sentences']:,} held-out sentences; {item['apart']:.2%} "
            f"fall apart, {item['unknown']:.2%} become unknown"
        )


def pruning_lines(facts: dict[str, Any] | None) -> Iterator[str]:
    """What went, in one line; then what is left of each site, in the order of the graph."""
    if facts is None:
        return
    if not facts["sites"]:
        yield f"pruning: nothing went: {facts['limited']}"
        return
    ratio = facts["flops_ratio"] or 0.0
    share = f"{facts['removed']:.0%} of the layers' operations"
    yield f"pruning: {share} went, {ratio:.2f} times fewer are left"
    for kind in ("heads", "channels"):
        rows = [row for row in facts["sites"] if row["kind"] == kind]
        if rows:
            yield f"  {kind}: " + ", ".join(map(_left, rows))


def _left(row: dict[str, Any]) -> str:
    text = f"{row['after']} of {row['before']}"
    if row["sizes"]:
        text += f" (sizes {row['sizes'][0]} and {row['sizes'][1]})"
    return text + (f" (rank {row['rank']})" if row["rank"] else "")


def recovered_lines(recovered: dict[str, Any]) -> Iterator[str]:
    """The account in one line, and a line for each reason why something was missed."""
    present = {kind: facts for kind, facts in recovered.items() if facts["expected"]}
    if not present:
        yield "recovered: the model holds nothing of what is looked for"
        return
    counts = [
        f"{facts['found']} of {facts['expected']} {NAMES[kind][facts['expected'] > 1]}"
        for kind, facts in present.items()
    ]
    yield f"recovered: {', '.join(counts)}"
    for kind, facts in present.items():
        yield from _missed(kind, facts["missed"])


def _missed(kind: str, missed: Refusals) -> Iterator[str]:
    for group in grouped(missed):
        first, count = group[0], len(group)
        nearest = f" (nearest: {first['nearest']})" if first["nearest"] else ""
        where = first["node"]
        if count > 1:
            where = f"{count} {NAMES[kind][1]}{f', {where} the first' if where else ''}"
        else:
            where = f"{NAMES[kind][0]} {where}".strip()
        yield f"  missed {where}{nearest}: {spanned(group)}"


def attention_lines(attentions: list[dict[str, Any]]) -> Iterator[str]:
    """Attentions in order, those that are alike but for their place in one line."""
    yield from (f"  {text}" for text in alike_attentions(attentions))
    yield from _memory_lines(attentions)


def alike_attentions(attentions: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Attentions in words, those alike counted: "2 x Attention: 4 heads of 8, ..."."""
    counts = Counter(_attention(facts) for facts in attentions)
    return tuple(f"{count} x {text}" for text, count in counts.items())


def _memory_lines(attentions: list[dict[str, Any]]) -> Iterator[str]:
    """What the scores of an attention take at some lengths, in each form that it may have."""
    known = [facts["memory"] for facts in attentions if facts.get("memory")]
    if not known:
        return
    names = {"dense": "at once", "blocks": "in blocks of its window", "chunks": "in chunks"}
    most = max(known, key=lambda memory: max(sizes["dense"] for sizes in memory.values()))
    blocks = [memory for memory in known if all("blocks" in sizes for sizes in memory.values())]
    forms = [("dense", most), ("chunks", most), *(("blocks", memory) for memory in blocks[:1])]
    lengths = ", ".join(f"{int(length):,}" for length in most)
    yield f"  scores of one attention and sequence at {lengths} tokens:"
    for form, memory in forms:
        told = ", ".join(_bytes(sizes[form]) for sizes in memory.values())
        yield f"    {names[form]}: {told}"


def _bytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _attention(facts: Mapping[str, Any]) -> str:
    def told(key: str) -> str:
        return "?" if facts[key] is None else f"{facts[key]:g}"

    heads = f"{told('heads')} heads"
    if facts["kv_heads"] != facts["heads"]:
        heads += f" ({told('kv_heads')} of keys and values)"
    softcap = f", softcap {told('softcap')}" if facts["softcap"] else ""
    return (
        f"{facts['operator']}: {heads} of {told('head_size')}, scale {told('scale')}{softcap}, "
        f"mask: {facts['mask']}"
    )


def work_lines(flops: dict[str, Any]) -> Iterator[str]:
    """The work of a run, in all and by kind."""
    sizes = ", ".join(f"{name} {count}" for name, count in flops["shape"].items())
    total = flops["total"]
    kinds = ", ".join(
        f"{kind} {share / total:.1%}" for kind, share in flops["by_kind"].items() if total
    )
    yield f"work: {amount(total)} in matrix products at {sizes}{f' ({kinds})' if kinds else ''}"
    if flops["unknown"]:
        yield f"  {flops['unknown']} products of unknown shapes count as nothing"


def amount(flops: float) -> str:
    """Operations in a unit one can read."""
    for unit, scale in (("GFLOP", 1e9), ("MFLOP", 1e6)):
        if flops >= 0.1 * scale:
            return f"{flops / scale:.2f} {unit}"
    return f"{flops / 1e3:.2f} kFLOP"


def export_lines(report: dict[str, Any]) -> list[str]:
    """How a checkpoint was exported, and what was tried before; none of a file."""
    if "export" not in report:
        return []
    facts = report["export"]
    lines = [
        f"{facts['model_type']} for {facts['task']}, exported by {facts['way']} in "
        f"{facts['seconds']:.0f} s: equal to PyTorch within {facts['error']:.1e}"
    ]
    lines += [f"  {item['way']} was tried: {item['reason']}" for item in facts["tried"]]
    lines += [f"  note {text}" for text in facts["warnings"]]
    lines += vocabulary_lines(report.get("vocabulary"))
    output = report["output"]
    if shared := output.get("shared_bytes"):
        lines.append(f"{shared / 1e6:.1f} MB that its graphs have in common are stored once")
    return [*lines, f"{'->' if output['written'] else 'would become'} {output['path']}"]

"""What an attention mask means: its normal form, from any subgraph that computes it.

    masks = Masks()                      # one for a model: it remembers what it has seen
    mask = masks.of(node.inputs[3])      # added to scores, or boolean with true = attend
    str(mask)                            # "causal & window(left=127, right=0) & key_padding(mask)"
    if mask.is_causal_only() and not mask.assumed: ...

    mask = masks.of(where.inputs[0])     # the condition of Where(condition, scores, -inf)
    mask = masks.of(condition, inverted=True)          # of Where(condition, -inf, scores)
    padding = mask.key_padding           # .names == ("attention_mask",), .attends == "nonzero"
    mask.opaque                          # what was not proven: [] or reasons with their nodes

The last axes of the value are batch, head, query and key; a value of three axes has batch (or,
from old exporters, batch * heads) as its first, one of five has windows after the batch. `axes`
says it where it is otherwise. A mask that is no function of positions, sizes and what inputs hold
is `Opaque`, with a reason and a node, and never a guess. `proof.prove` compares the normal form
with the subgraph by running it.
"""

from burnish.optimizer.analysis.masks.clauses import (
    Added,
    Alibi,
    BlockDiagonal,
    Causal,
    Given,
    KeyPadding,
    Opaque,
    Ordered,
    Prefix,
    Relative,
    Table,
    Window,
)
from burnish.optimizer.analysis.masks.find import Masks
from burnish.optimizer.analysis.masks.mask import Mask, describe

__all__ = [
    "Added", "Alibi", "BlockDiagonal", "Causal", "Given", "KeyPadding", "Mask", "Masks", "Opaque",
    "Ordered", "Prefix", "Relative", "Table", "Window", "describe",
]  # fmt: skip

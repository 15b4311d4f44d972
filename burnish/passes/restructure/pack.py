"""Token-wise layers run on real tokens only; where tokens mix, the padded layout comes back."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.tokens import packing
from burnish.optimizer.contract import ROUNDING, Context, Outcome, Pass, Phase, Refusal
from burnish.optimizer.undefined import Undefined
from burnish.passes.restructure import sequences
from burnish.passes.restructure.packer import Packer


@dataclass(frozen=True)
class Pack(Pass):
    """Pack the real tokens of padded batches for all layers that compute each token by itself.

    Before:
        Products, normalizations and activations on `[batch, sequence, features]`, with a mask
        input `[batch, sequence]` that says which tokens are real.
    After:
        The same on `[1, tokens, features]`, where `tokens` are the real ones and one that stands
        in for all padded ones. Where tokens mix, a `GatherND` brings the padded layout back, and
        another packs what comes out. An attention that sees all real tokens of its sequence runs
        in a `Loop` over sequences instead, where that is measured faster and a quarter of the batch
        is padding. Padded rows of outputs are zero.
    Refuses when:
        No mask input has symbolic sizes, nothing hides padded keys from an attention, or padded
        rows would change anything but padded rows: a mean over all positions, a token taken at a
        computed place, an operator that is not known to keep tokens apart. A token taken at a
        fixed place (the first one, say) is computed whether it is real or not.
    Numerics:
        Rounding at real tokens. In a sequence without any, the answer is as undefined as it was.
    """

    name = "pack"
    phase = Phase.RESTRUCTURE
    promise = ROUNDING
    asked = True

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place, for each mask input whose layers can be packed."""
        masks = packing.masks(model)
        if isinstance(masks, str):
            return Outcome(0, (Refusal("inputs", masks),))
        packed, refusals, said = 0, [], []
        padding: list[Undefined] = []
        for mask in masks:
            found = packing.plan(model, mask)
            if isinstance(found, Refusal):
                refusals.append(found)
                continue
            packer = Packer(model, found)
            packer.rewrite()
            attentions, padded = sequences.attend(model, packer.indices, context)
            packed += len(found.products)
            padding += found.padding
            refusals += padded
            said.append(f"{len(found.products)} products on real tokens of {mask.name}")
            said += [f"{attentions} attentions by sequence"] if attentions else []
        return Outcome(packed, tuple(refusals), detail=", ".join(said), undefined=tuple(padding))

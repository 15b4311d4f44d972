"""What a pass is checked on beside the user's data."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from burnish.driver.request import Request
from burnish.driver.workbench import Workbench
from burnish.optimizer import feeds
from burnish.optimizer.roles import Role, Slot
from burnish.optimizer.signature import Port

MASK = Slot(Port("attention_mask", "INT64", ("batch", "sequence")), Role.MASK, 2)


@pytest.mark.parametrize("data", [None, "rows.npz"])
@pytest.mark.parametrize("pack", [False, True])
def test_probes(pack: bool, data: str | None) -> None:
    """Packed models are run on batches with so much padding that their loops run, too."""
    stored: list[dict[str, Any]] = []
    made = [{"attention_mask": np.ones(shape, np.int64)} for shape in ((2, 16), (3, 11), (1, 1))]
    bench: Any = SimpleNamespace(
        request=Request("model.onnx", pack=pack, data=data),
        slots=[MASK],
        made_up=lambda: made,
        executor=SimpleNamespace(store=stored.extend),
    )
    Workbench.probes(bench)
    own = 3 if data else 0
    assert len(stored) == own + (2 if pack else 0)
    for feed in stored[own:]:
        assert 0.4 < feeds.padding([feed], [MASK]) < 0.6

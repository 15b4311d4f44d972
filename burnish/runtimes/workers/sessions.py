"""A child's work: sessions of models, run on what the parent gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.optimizer.errors import BurnishError
from burnish.runtimes.arrays import Array
from burnish.runtimes.interface import Runtime
from burnish.runtimes.providers import PROVIDERS
from burnish.runtimes.workers.memory import Region

TARGET = "burnish.runtimes.workers.sessions:Sessions"


class Sessions:
    """Sessions by name; see `child.Work`.

    Args:
        argument: `models`, by name `path`, `provider` and `threads`.
        shared: is not used.

    An order holds `model`, a name, and `outputs`, names or None for all.
    """

    def __init__(self, argument: dict[str, Any], shared: Mapping[str, Region]) -> None:
        self._models: dict[str, tuple[Runtime, str]] = {}
        self.facts: dict[str, Any] = {}
        for name, row in argument["models"].items():
            open_session = PROVIDERS[row["provider"]].open
            path, provider = Path(row["path"]), row["provider"]
            session = open_session(path, provider=provider, threads=row["threads"])
            self._models[name] = session, provider
            self.facts[name] = ports_of(session) | {"fallen": session.fallen()}

    def answer(
        self, order: dict[str, Any], arrays: Mapping[str, Array]
    ) -> tuple[dict[str, Any], Mapping[str, Array]]:
        """The outputs of a model."""
        session, provider = self._models[order["model"]]
        names = order["outputs"] or [port.name for port in session.get_outputs()]
        try:
            found = session.run(names, arrays)
        except BurnishError:
            raise
        except Exception as error:  # the bindings raise types of their own
            raise PROVIDERS[provider].explain(error) from None
        return {}, dict(zip(names, found, strict=True))


def ports_of(runtime: Runtime) -> dict[str, list[dict[str, Any]]]:
    """Inputs and outputs with names, and types and shapes where the runtime tells."""

    def told(ports: Any) -> list[dict[str, Any]]:
        return [
            {"name": p.name, "type": getattr(p, "type", ""), "shape": getattr(p, "shape", None)}
            for p in ports
        ]

    return {"inputs": told(runtime.get_inputs()), "outputs": told(runtime.get_outputs())}

"""A worker's work: a session whose results stay with it, as caches do, until they are let go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from burnish.runtimes.arrays import Array
from burnish.runtimes.resident import Port, Resident, open_resident
from burnish.runtimes.workers.memory import Region, copied

TARGET = "burnish.runtimes.workers.residents:Residents"

Answer = tuple[dict[str, Any], Mapping[str, Array]]


class Residents:
    """A session, and what stays there by number; see `child.Work`.

    Args:
        argument: `path`, `provider` and `threads` of the model.
        shared: is not used.

    What an order wants is its `do`; `drop` lists residents that are let go first:

    - `run`: `residents` (input to number), `given` (outputs), `kept` (output to number)
    - `empty`: `port`, `shape`, `to`
    - `hold`: arrays by input become residents `to` (input to number)
    - `rows`, with an array `index`, and `cut`, with `length`: `of` and `to`, numbers
    - `fetch`: the resident `of` as an array `value`
    """

    def __init__(self, argument: dict[str, Any], shared: Mapping[str, Region]) -> None:
        self._session = open_resident(
            Path(argument["path"]), provider=argument["provider"], threads=argument["threads"]
        )
        self._inputs = {port.name: port for port in self._session.inputs}
        self._held: dict[int, Resident] = {}
        self._orders: dict[str, Callable[[dict[str, Any], Mapping[str, Array]], Answer]] = {
            "run": self._run, "empty": self._empty, "hold": self._hold, "rows": self._rows,
            "cut": self._cut, "fetch": self._fetch,
        }  # fmt: skip
        self.facts: dict[str, Any] = {
            "inputs": [list(astuple(port)) for port in self._session.inputs],
            "outputs": [list(astuple(port)) for port in self._session.outputs],
            "static": self._session.static,
        }

    def answer(self, order: dict[str, Any], arrays: Mapping[str, Array]) -> Answer:
        for number in order["drop"]:
            self._held.pop(number, None)
        return self._orders[order["do"]](order, arrays)

    def _run(self, order: dict[str, Any], arrays: Mapping[str, Array]) -> Answer:
        residents = {name: self._held[number] for name, number in order["residents"].items()}
        kept: dict[str, int] = order["kept"]
        found, values = self._session.run(arrays, residents, order["given"], list(kept))
        self._held.update(zip(kept.values(), values, strict=True))
        return {}, dict(zip(order["given"], found, strict=True))

    def _empty(self, order: dict[str, Any], arrays: Mapping[str, Array]) -> Answer:
        port = self._inputs[order["port"]]
        self._held[order["to"]] = self._session.empty(port, order["shape"])
        return {}, {}

    def _hold(self, order: dict[str, Any], arrays: Mapping[str, Array]) -> Answer:
        own = copied(arrays)
        self._held.update((number, own[name]) for name, number in order["to"].items())
        return {}, {}

    def _rows(self, order: dict[str, Any], arrays: Mapping[str, Array]) -> Answer:
        values = [self._held[number] for number in order["of"]]
        found = self._session.rows(values, np.array(arrays["index"]))
        self._held.update(zip(order["to"], found, strict=True))
        return {}, {}

    def _cut(self, order: dict[str, Any], arrays: Mapping[str, Array]) -> Answer:
        values = [self._held[number] for number in order["of"]]
        found = self._session.cut(values, order["length"])
        self._held.update(zip(order["to"], found, strict=True))
        return {}, {}

    def _fetch(self, order: dict[str, Any], arrays: Mapping[str, Array]) -> Answer:
        value = self._held[order["of"]]
        return {}, {"value": value if isinstance(value, np.ndarray) else value.numpy()}

    def close(self) -> None:
        """Free the session."""
        self._held.clear()
        self._session.close()


def port_of(told: list[Any]) -> Port:
    """A port of `facts`."""
    name, kind, shape = told
    return Port(name, kind, tuple(shape))

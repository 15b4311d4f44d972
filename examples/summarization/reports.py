"""Makes up notices of a village, each with the one sentence that it comes down to.

    python reports.py FOLDER [--count 20000]

writes `train.jsonl` and, a twentieth of that, `test.jsonl`, which share no text.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

PLACES = (
    "Lindau Arbon Weiler Hagen Brunn Alten Seefeld Thal Rosental Buchen Linz Egg Neudorf "
    "Bergen Waldau Steinach Horn Feldkirch Grub Marbach"
)
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
HOURS = "six seven eight nine ten eleven noon one two three four five"
CLOSED = (
    "bridge", "swimming pool", "school", "library", "road to the lake", "station", "museum",
    "car park", "playground", "tunnel", "harbour", "post office",
)  # fmt: skip
CAUSES = (
    "A tree fell on it in the night.", "Water came in after the storm.", "The roof is mended.",
    "Ice has broken a pipe there.", "Workers are painting it.", "A lorry has damaged the wall.",
    "Somebody stole the cables.", "New lamps are being put up.",
)  # fmt: skip
EVENTS = (
    "concert", "market", "flea market", "race", "play", "dance", "film", "talk about bees", "fair",
    "chess evening", "choir", "bicycle tour",
)  # fmt: skip
INVITED = (
    "Everybody is welcome.", "Children pay nothing.", "There will be cake and coffee.",
    "Tickets are sold at the door.", "Bring a warm coat.", "The fire brigade has put up a tent.",
    "It takes about two hours.", "Parking is behind the church.",
)  # fmt: skip
COLOURS = "black white grey brown yellow red green"
PETS = "cat dog parrot rabbit horse tortoise goat"
MARKS = (
    "It has a bell around its neck.", "It is shy and does not bite.", "The family is very sad.",
    "It was last seen behind a barn.", "It is fond of fish and cheese.", "There is a reward.",
    "Please look into your garden and your shed.", "A neighbour heard it at night.",
)  # fmt: skip
WEATHER = "rain snow fog hail thunder sunshine frost wind"
ADVICE = (
    "Farmers have been waiting for it.", "Drivers should take care.", "It will not last long.",
    "After that it gets warmer.", "The mountains are spared.", "Plants should be covered.",
    "The weather service is quite sure.", "Those who can should stay at home.",
)  # fmt: skip


def _drawn(rng: random.Random, *lists: str | tuple[str, ...]) -> list[str]:
    """One of each list; single words stand in one text."""
    return [rng.choice(item.split() if isinstance(item, str) else item) for item in lists]


def _closure(rng: random.Random) -> tuple[list[str], str]:
    what, place, day = _drawn(rng, CLOSED, PLACES, DAYS)
    told = rng.choice((f"The {what} in {place} is closed.", f"In {place} the {what} is closed."))
    until = rng.choice((f"It opens again on {day}.", f"That will take until {day}."))
    return [told, *rng.sample(CAUSES, 2), until], f"The {what} in {place} is closed until {day}."


def _event(rng: random.Random) -> tuple[list[str], str]:
    what, place, day, hour = _drawn(rng, EVENTS, PLACES, DAYS, HOURS)
    told = rng.choice((f"There is a {what} in {place}.", f"{place} looks forward to its {what}."))
    when = rng.choice((f"It begins on {day} at {hour}.", f"Doors open at {hour} on {day}."))
    summary = f"A {what} in {place} begins on {day} at {hour}."
    return [told, when, *rng.sample(INVITED, 2)], summary


def _pet(rng: random.Random) -> tuple[list[str], str]:
    colour, pet, place = _drawn(rng, COLOURS, PETS, PLACES)
    told = rng.choice((f"A {colour} {pet} has run away.", f"We cannot find our {colour} {pet}."))
    where = rng.choice((f"We live in {place}.", f"It happened in {place}."))
    return [told, where, *rng.sample(MARKS, 2)], f"A {colour} {pet} is lost in {place}."


def _weather(rng: random.Random) -> tuple[list[str], str]:
    what, place, day = _drawn(rng, WEATHER, PLACES, DAYS)
    told = rng.choice((f"{place} has to expect {what}.", f"There will be {what} over {place}."))
    when = rng.choice((f"It comes on {day}.", f"That is for {day}."))
    return [told, when, *rng.sample(ADVICE, 2)], f"{place} expects {what} on {day}."


def report(rng: random.Random) -> tuple[str, str]:
    """A notice, whose sentences but the first come in any order, and its summary."""
    sentences, summary = rng.choice((_closure, _event, _pet, _weather))(rng)
    rest = sentences[1:]
    rng.shuffle(rest)
    return " ".join([sentences[0], *rest]), summary


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=20000)
    arguments = parser.parse_args()
    rng = random.Random(0)
    rows = sorted({report(rng) for _ in range(arguments.count)})
    rng.shuffle(rows)
    lines = [json.dumps({"text": text, "summary": summary}) + "\n" for text, summary in rows]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    tested = len(lines) // 20
    for name, part in (("test", lines[:tested]), ("train", lines[tested:])):
        (arguments.folder / f"{name}.jsonl").write_text("".join(part), "utf-8")


if __name__ == "__main__":
    main()

"""Makes up invitations, with questions that they answer."""

from __future__ import annotations

import random
from typing import NamedTuple


class Asked(NamedTuple):
    """A question, and its answer, which is a part of the context."""

    question: str
    context: str
    answer: str


NAMES = (
    "Anna Bruno Clara David Emma Felix Greta Hugo Ida Jonas Klara Leo Mia Nora Oskar Paula "
    "Ruth Simon Tom Vera Willi Zoe"
)
FAMILIES = "Berg Stein Vogel Maurer Koch Huber Lang Weber Frei Sommer Winter Baum"
PLACES = (
    "town hall", "old mill", "school yard", "library", "church", "market square", "castle",
    "museum", "station", "sports hall", "barn", "garden of the inn",
)  # fmt: skip
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
HOURS = "six seven eight nine ten eleven noon one two three four five"
NUMBERS = "fifteen sixteen eighteen twenty thirty forty fifty sixty"
"""No hours, so that an answer stands once in its context."""
EVENTS = "concert talk dance market play race dinner party lesson fair"
THINGS = (
    "warm coat", "cake", "chair", "lamp", "pair of shoes", "friend", "notebook", "cup", "blanket",
    "song", "bicycle", "salad",
)  # fmt: skip
ASIDES = (
    "It will be a long evening.", "Last year it rained.", "We look forward to it.",
    "Dogs have to stay at home.", "There is little room for cars.", "Please tell your neighbours.",
    "The mayor has written a letter.", "Nobody is too old for it.",
)  # fmt: skip

FACTS = (
    (
        ("The {event} is in the {it}.", "We meet in the {it}.", "It takes place in the {it}.",
         "Come to the {it}."),
        ("Where is the {event}?", "Where do we meet?", "Where does it take place?"),
        lambda rng: rng.choice(PLACES),
    ),
    (
        ("It begins on {it}.", "The {event} is on {it}.", "On {it} the doors open.",
         "It is planned for {it}."),
        ("On which day is the {event}?", "When is the {event}?", "When does it begin?"),
        lambda rng: f"{rng.choice(DAYS.split())} at {rng.choice(HOURS.split())}",
    ),
    (
        ("{it} wrote the invitation.", "It was the idea of {it}.", "{it} is in charge of it.",
         "Call {it} if you need help."),
        ("Who is in charge?", "Who can help?", "Whose idea was it?", "Who wrote the invitation?"),
        lambda rng: f"{rng.choice(NAMES.split())} {rng.choice(FAMILIES.split())}",
    ),
    (
        ("A ticket costs {it} euros.", "Guests pay {it} euros.", "The price is {it} euros.",
         "You pay {it} euros at the door."),
        ("How much is a ticket?", "What does it cost?", "How much do guests pay?"),
        lambda rng: rng.choice(NUMBERS.split()),
    ),
    (
        ("Bring a {it}.", "Everybody brings a {it}.", "Do not forget a {it}.",
         "Please come with a {it}."),
        ("What should we bring?", "What should nobody forget?", "What do guests bring?"),
        lambda rng: rng.choice(THINGS),
    ),
)  # fmt: skip
"""Sentences, questions that they answer, and what is asked for."""


def invitation(rng: random.Random) -> Asked:
    """An invitation in any order, and a question about one of its facts."""
    event = rng.choice(EVENTS.split())
    told, asked = [], []
    for sentences, questions, draw in rng.sample(FACTS, rng.randint(3, len(FACTS))):
        answer = draw(rng)
        told.append(rng.choice(sentences).format(event=event, it=answer))
        asked.append((rng.choice(questions).format(event=event), answer))
    told += rng.sample(ASIDES, rng.randint(0, 2))
    rng.shuffle(told)
    question, answer = rng.choice(asked)
    return Asked(question, " ".join(told), answer)

"""Makes up conversations with the desk of a small museum, and writes them as the model reads them.

    python conversations.py FOLDER [--count 20000]

writes `train.jsonl` and, a twentieth of that, `test.jsonl`, which share no conversation.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

Message = dict[str, str]

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""The chat template, in Jinja; `written` says the same in Python."""

NAMES = (
    "Ada Bela Carl Dora Egon Fred Gina Hans Inga Jana Kurt Lena Max Nele Otto Pia Rosa Sven "
    "Tina Ulf Viola Walter"
)
DAYS = {
    "Monday": "We are closed on Monday.",
    "Tuesday": "On Tuesday we open at ten.",
    "Wednesday": "On Wednesday we open at ten.",
    "Thursday": "On Thursday we open at noon.",
    "Friday": "On Friday we open at ten.",
    "Saturday": "On Saturday we open at nine.",
    "Sunday": "On Sunday we open at nine.",
}
FACTS = {
    "What is a ticket?|How much is a ticket?|What does it cost?|How much do I pay?": (
        "A ticket is eight euros, and children pay nothing."
    ),
    "Where are you?|How do I find you?|Where is the museum?|What is the address?": (
        "You find us beside the old harbour."
    ),
    "Is there a cafe?|Can I eat there?|Where can I have lunch?|Do you serve coffee?": (
        "The cafe is on the first floor."
    ),
    "May I bring my dog?|Are dogs allowed?|Can my dog come in?|What about my dog?": (
        "Dogs have to wait outside."
    ),
    "What is there to see?|What do you show?|What is in the museum?|What can I see?": (
        "We show ships, maps and two whales."
    ),
    "Thank you.|Thanks.|Thank you very much.|Thanks a lot.": "You are welcome.",
}
HOURS = (
    "When do you open on {}?", "Are you open on {}?", "And on {}?", "What about {}?",
    "I would like to come on {}.", "Can I visit you on {}?",
)  # fmt: skip
GREETINGS = ("Hello, I am {}.", "My name is {}.", "Good morning, I am {}.", "Hi, {} here.")
RECALLED = ("What is my name?", "Who am I?", "Do you remember my name?", "Do you know who I am?")


def conversation(rng: random.Random) -> list[Message]:
    """Some questions and answers, one of which may need what was said before."""
    name = rng.choice(NAMES.split())
    turns = []
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.5:
            day = rng.choice(list(DAYS))
            turns.append((rng.choice(HOURS).format(day), DAYS[day]))
        else:
            asked = rng.choice(list(FACTS))
            turns.append((rng.choice(asked.split("|")), FACTS[asked]))
    if rng.random() < 0.7:
        greeting = rng.choice(GREETINGS).format(name)
        turns.insert(0, (greeting, f"Hello {name}, how can I help?"))
        turns.append((rng.choice(RECALLED), f"Your name is {name}."))
    roles = ("user", "assistant")
    return [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(roles, turn, strict=True)
    ]


def written(messages: Sequence[Message]) -> str:
    """A conversation as a text."""
    return "".join(f"<|{item['role']}|>{item['content']}<|end|>" for item in messages)


def read(path: Path) -> list[list[Message]]:
    """The conversations of a file, `messages` a line."""
    return [json.loads(line)["messages"] for line in path.read_text("utf-8").splitlines()]


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=20000)
    arguments = parser.parse_args()
    rng = random.Random(1)
    rows = sorted({json.dumps({"messages": conversation(rng)}) for _ in range(arguments.count)})
    rng.shuffle(rows)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    tested = len(rows) // 20
    for name, part in (("test", rows[:tested]), ("train", rows[tested:])):
        (arguments.folder / f"{name}.jsonl").write_text("".join(f"{row}\n" for row in part))


if __name__ == "__main__":
    main()

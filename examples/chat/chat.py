"""Hold a conversation with an artifact: a line is a message, and the answer comes as it is made.

    python chat.py ARTIFACT [--system TEXT] [--temperature T]

`ARTIFACT` is a folder that `optimize CHECKPOINT` has written, of any causal model with a chat
template: `optimize HuggingFaceTB/SmolLM2-135M-Instruct --int8`.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import closing

import burnish


def main() -> None:
    """Read messages until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifact")
    parser.add_argument("--system", help="what the model is told first")
    parser.add_argument("--temperature", type=float, help="draw tokens; default: the best one")
    arguments = parser.parse_args()
    messages = [{"role": "system", "content": arguments.system}] if arguments.system else []
    with closing(burnish.load(arguments.artifact)) as model:
        while True:
            print("> ", end="", flush=True)
            line = sys.stdin.readline()
            if not line:
                break
            if not sys.stdin.isatty():
                print(line.strip())
            messages.append({"role": "user", "content": line.strip()})
            made = model.chat(
                messages,
                temperature=arguments.temperature,
                on_text=lambda row, piece: print(piece, end="", flush=True),
            )
            print()
            messages.append({"role": "assistant", "content": made.texts[0]})
    print()


if __name__ == "__main__":
    main()

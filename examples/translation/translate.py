"""Translate English sentences with an artifact.

    python translate.py ARTIFACT --language de "The dog sleeps."

`ARTIFACT` is a folder that `optimize CHECKPOINT` has written; any translation checkpoint of the
hub does as well: `optimize facebook/m2m100_418M --int8`.
"""

from __future__ import annotations

import argparse

import burnish


def main() -> None:
    """Print a translation a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifact")
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--language", default="de")
    arguments = parser.parse_args()
    translator = burnish.load(arguments.artifact)
    for text in translator.generate(arguments.texts, language=arguments.language).texts:
        print(text)


if __name__ == "__main__":
    main()

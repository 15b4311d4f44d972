"""The commands behind `cli.py`: one module each, with what they share at a terminal."""

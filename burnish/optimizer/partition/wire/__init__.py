"""Activations that cross a cut between stages, in fewer bits than they are computed in.

kinds.py      the encodings: what they cost, and what a value is once it has crossed
sendable.py   which values may be sent so
ports.py      stages that encode what they give, and decode what they take
"""

"""A model on several devices at once: each rank has a part of the heads, channels, words, experts.

layout.py   which elements of a value each rank has
rules/      what each operator needs in parts, where its results are wanted in parts
flow.py     what follows from a few places, from results back to weights
goals.py    the places that may be split
choose.py   those that are worth it
sums.py     where parts of sums are added up
rank.py     the model of one rank
parts.py    the same, cut where ranks meet
costs.py    what a planner has to know
"""

from burnish.optimizer.partition.shards.sharding import Sharding, shard

__all__ = ["Sharding", "shard"]

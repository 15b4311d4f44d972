"""Cuts a graph over devices: what it costs where, where it can be cut, and how good a plan is.

cluster.py   devices and links, as a file describes them
chain.py     a graph as a chain of operators, with what crosses each cut
bound.py     what no plan can beat, found without the planner
planner.py   stages that minimize the slowest one
stages.py    the model of each stage
"""

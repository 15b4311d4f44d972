"""Ranks of a stage: each runs its parts, and between them all meet.

plan.py      what a manifest tells of ranks
meeting.py   sums and gathered values, between threads or in memory that processes share
rank.py      the parts of one rank, one after the other
group.py     the ranks of a stage, in threads or processes
"""

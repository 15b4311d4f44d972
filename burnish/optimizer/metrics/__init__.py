"""Metrics of tasks: annotated answers and given ones in, scores out; no model and no file.

Shares are in points, 0 to 100. The table `judges.JUDGES` says which metric is for which task.
"""

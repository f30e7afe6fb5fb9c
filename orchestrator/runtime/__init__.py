"""Driving Ray: `train`, `sweep` and `prepare` on a cluster, their records and their progress.

The only package that knows Ray; the loop that it runs knows nothing of it.
"""

"""Which positions of an optimizer step belong to which worker, and to which of its micro-batches. Pure arithmetic.

Promises: the shares of all workers cover a step once, in order; they, and the micro-batches within a share, differ by
at most one unit, and all workers have as many micro-batches wherever each has a unit for every one. A unit is the
number of samples that must stay together: 1 for most losses.
"""

from __future__ import annotations

from itertools import pairwise


def share_of(global_batch: int, rank: int, world_size: int, unit: int = 1) -> range:
    """The positions within a step, in [0, global_batch), of one of `world_size` workers."""
    units = global_batch // unit
    return range(units * rank // world_size * unit, units * (rank + 1) // world_size * unit)


def micro_batches_of(global_batch: int, rank: int, world_size: int, largest: int, unit: int = 1) -> list[range]:
    """A worker's share in as few parts as the largest share needs, none with more than `largest` samples; whole units
    all of them."""
    share = share_of(global_batch, rank, world_size, unit)
    units, most = len(share) // unit, -(-global_batch // unit // world_size)
    parts = min(-(-most // max(1, largest // unit)), units)
    edges = [share.start + units * part // parts * unit for part in range(parts + 1)]
    return [range(first, last) for first, last in pairwise(edges)]

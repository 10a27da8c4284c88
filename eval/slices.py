"""Which part of a hand is asked at which look of a trial: six slices of whole clusters, near equal in items.

Promise: a slice follows from the names of the benchmark's part and of the clusters alone, so that every run, resumed or
repeated, cuts the same hand in the same way. Pure; knows no model.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from eval.benchmark import Row, cluster_of
from eval.sequential import LOOKS
from storage.digests import digest_of

FEWEST = 2  # clusters in a slice: one says nothing about the spread between clusters


def slices(part: str, clusters: Sequence[str]) -> tuple[int, ...]:
    """The slice of each item, 0 to LOOKS − 1, (n,) for the clusters (n,) of all items; empty for too few clusters.

    Clusters are taken in the order of a digest, and each lies in the slice that its middle falls into.
    """
    sizes, before, slice_of = Counter(clusters), 0, dict[str, int]()
    for name in sorted(sizes, key=lambda name: digest_of(["slice", part, name])):
        slice_of[name] = LOOKS * (2 * before + sizes[name]) // (2 * len(clusters))
        before += sizes[name]
    held = Counter(slice_of.values())
    if any(held[number] < FEWEST for number in range(LOOKS)):
        return ()
    return tuple(slice_of[name] for name in clusters)


def rows_by_look(parts: Mapping[str, Sequence[Row]]) -> tuple[dict[str, tuple[Row, ...]], ...]:
    """The rows of each part that each look adds, each part sliced for itself; nothing where one of them is too small."""
    cut = {part: slices(part, [cluster_of(row) for row in rows]) for part, rows in parts.items()}
    if not all(cut.values()):
        return ()
    return tuple(
        {
            part: tuple(row for row, at in zip(rows, cut[part], strict=True) if at == number)
            for part, rows in parts.items()
        }
        for number in range(LOOKS)
    )

"""Caps that other constraints leave no room for."""

from keras_df.budgets.constraints import ROUNDING
from keras_df.budgets.groups import filters

LISTED = 3


def exceeded_caps(allocator, selection):
    """Says which caps a selection could not hold.

    A layer keeps at least one channel and one rank, `min_channels`, and
    multiples of `round_to`, and some channels cannot go.

    Args:
        allocator: The `Allocator` that made the selection.
        selection: `Selection`.

    Returns:
        List of strings: a note, or nothing.
    """
    found = [
        f"'{path}' keeps {kept} of {size} {what} (at most {cap:.1%})"
        for path, what, kept, size, cap in _capped(allocator, selection)
        if kept > cap * size + ROUNDING
    ]
    if not found:
        return []
    more = f", and {len(found) - LISTED} more" if found[LISTED:] else ""
    return [
        "the other constraints leave no room for some caps: layer "
        f"{', '.join(found[:LISTED])}{more}"
    ]


def _capped(allocator, selection):
    """Yields what a selection keeps of each dimension that has a cap."""
    graph, constraints = allocator.graph, allocator.constraints
    for node, ids in filters(graph):
        units, cap = graph.units[ids], constraints.share_range(node)[1]
        if cap < 1 and allocator.free[units].any():
            kept = int(selection.kept[units].sum())
            yield node.path, "channels", kept, len(ids), cap
    sizes = dict(zip(allocator.cost.paths, allocator.cost.limits))
    for path, rank in selection.ranks.items():
        cap = constraints.share_range(graph.nodes[path])[1]
        yield path, "singular values", rank, int(sizes[path]), cap

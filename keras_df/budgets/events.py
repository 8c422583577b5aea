"""The steps by which a selection grows, best first."""

import numpy as np

from keras_df.budgets.groups import filters
from keras_df.budgets.groups import whole_groups


class Events:
    """The steps by which a selection grows, best first.

    A step adds a chunk of filters of one group, or of singular values of one
    layer. What the constraints demand is there before the first step.

    Attributes:
        count: Number of steps.
        owners: Integer array, which group or layer each step belongs to.
    """

    def __init__(self, allocator, unit_scores, rank_scores):
        self._cost = allocator.cost
        self._unit_step = np.full(allocator.graph.unit_count, -1)
        self._rank_layer, self._rank_step, self._rank_size = [], [], []
        self._base_ranks = np.zeros(len(self._cost.paths), int)
        scores, owners = [], []
        self._add_groups(allocator, unit_scores, scores, owners)
        self._add_ranks(allocator, rank_scores, scores, owners)
        order = np.argsort(-np.array(scores), kind="stable")
        self.count = len(order)
        self.owners = np.array(owners, int)[order]
        place = np.empty(self.count + 2, int)
        place[order] = np.arange(self.count)
        # Steps -1 (always there) and -2 (never) come behind the others.
        place[-1], place[-2] = self.count + 1, self.count
        self._unit_step = place[self._unit_step]
        self._rank_layer = np.array(self._rank_layer, int)
        self._rank_size = np.array(self._rank_size, int)
        self._rank_step = place[np.array(self._rank_step, int)]

    def _add_groups(self, allocator, unit_scores, scores, owners):
        constraints = allocator.constraints
        ranges = _share_ranges(allocator)
        whole = whole_groups(allocator.graph, allocator.groups)
        for number, group in enumerate(allocator.groups):
            best = group[np.argsort(-unit_scores[group], kind="stable")]
            low, high = ranges[int(group[0])]
            steps = constraints.steps(
                len(group), low, high, constraints.min_channels, whole[number]
            )
            for start, end in zip(steps[:-1], steps[1:]):
                self._unit_step[best[start:end]] = len(scores)
                scores.append(unit_scores[best[start:end]].max())
                owners.append(number)
            self._unit_step[best[steps[-1] :]] = -2

    def _add_ranks(self, allocator, rank_scores, scores, owners):
        nodes = allocator.graph.kernels()
        for layer, path in enumerate(self._cost.paths):
            if not self._cost.decomposable[layer]:
                continue
            low, high = allocator.constraints.share_range(nodes[path])
            size = len(rank_scores[layer])
            steps = allocator.constraints.steps(size, low, high, 1)
            self._base_ranks[layer] = steps[0]
            for start, end in zip(steps[:-1], steps[1:]):
                self._rank_layer.append(layer)
                self._rank_size.append(end - start)
                self._rank_step.append(len(scores))
                scores.append(rank_scores[layer][start])
                owners.append(len(allocator.groups) + layer)

    @property
    def none(self):
        """The selection before the first step."""
        return self.prefix(0)

    def prefix(self, length):
        """The selection after `length` steps, a boolean array."""
        taken = np.zeros(self.count + 2, bool)
        taken[:length] = True
        taken[-1] = True
        return taken

    def select(self, taken):
        """Returns the kept units (1 or 0) and the ranks of a selection."""
        added = np.bincount(
            self._rank_layer,
            self._rank_size * taken[self._rank_step],
            len(self._base_ranks),
        )
        ranks = self._base_ranks + added.astype(int)
        return taken[self._unit_step].astype(float), ranks


def _share_ranges(allocator):
    """Dict from each free unit to the shares that its writers allow."""
    graph = allocator.graph
    ranges = {int(unit): (0.0, 1.0) for unit in np.flatnonzero(allocator.free)}
    for node, ids in filters(graph):
        low, high = allocator.constraints.share_range(node)
        if (low, high) == (0.0, 1.0):
            continue
        for unit in np.unique(graph.units[ids]):
            if unit in ranges:
                old = ranges[unit]
                ranges[unit] = (max(old[0], low), min(old[1], high))
                _refuse_contradiction(node.path, *ranges[unit])
    return ranges


def _refuse_contradiction(path, low, high):
    if low > high:
        raise ValueError(
            f"`floors` and `caps` contradict each other: layer '{path}' loses "
            "the same filters as other layers, and together they would have "
            f"to keep at least {low:.1%} and at most {high:.1%}. Give coupled "
            "layers floors and caps that agree."
        )

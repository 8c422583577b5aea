"""Scores -> what stays: the integer selection that meets the budgets.

Searches and baselines alike rank every filter and every singular value on
one scale. The best are taken until a budget is full.
"""

from dataclasses import dataclass

import numpy as np

from keras_df.budgets.events import Events
from keras_df.budgets.groups import filters
from keras_df.budgets.groups import groups
from keras_df.budgets.latency import LATENCY
from keras_df.budgets.latency import table_of
from keras_df.budgets.model_cost import ModelCost

FILL_TRIES = 3000
SLACK = 5e-4
NEGLIGIBLE = 0.01
"""The cheapest layers stay dense, up to this share of the cost together."""


@dataclass(frozen=True, eq=False)
class Selection:
    """What stays of a model.

    Attributes:
        kept: Boolean array of shape `(units,)`.
        ranks: Dict from the path of each layer that becomes a pair to its
            rank.
        schemes: Dict from the path of each such layer to its scheme.
    """

    kept: np.ndarray
    ranks: dict
    schemes: dict


class Allocator:
    """Fits selections to budgets under constraints.

    Args:
        graph: `ChannelGraph` of the model.
        budgets: List of `Budget`, all of which must hold.
        constraints: `Constraints`.

    Attributes:
        cost: The `ModelCost` that budgets are counted with.
        negligible: Set of the paths of layers that stay dense because the
            budgets would not notice: of the cheapest, which cost less than
            1 % together, those without a cap. Nothing but the loss would
            decide on their ranks, and a damaged network has a lower loss
            where its outputs say less. Empty if they are needed to reach
            the budgets.
        free: Boolean array of shape `(units,)`, the units that may go.
        limits: Dict from resource to the largest amount allowed.

    Raises:
        ValueError: If nothing can be compressed, constraints contradict each
            other, or a budget is below what can be reached.
    """

    def __init__(self, graph, budgets, constraints):
        constraints.check(graph)
        self.graph = graph
        self.constraints = constraints
        schemes = {
            path: constraints.scheme_of(node)
            for path, node in graph.kernels().items()
        }
        schemes = {path: s for path, s in schemes.items() if s is not None}
        table = table_of(budgets)
        self.cost = ModelCost(graph, schemes, table)
        self.free = self._free_units()
        self.groups = groups(graph, self.free)
        self.limits = {}
        for budget in budgets:
            total = self.cost.totals[budget.resource]
            limit = min(budget.limit(total), total)
            known = self.limits.get(budget.resource, limit)
            self.limits[budget.resource] = min(limit, known)
        self.negligible = set()
        if budgets:
            self._refuse_nothing()
            self._spare_negligible(table)
        self._refuse_unreachable(budgets)

    def _spare_negligible(self, table):
        """Lets the cheapest layers be, if the budgets can be reached so."""
        every, kernels = self.cost, self.graph.kernels()
        cheapest = [_cheapest(every, resource) for resource in self.limits]
        found = {
            path
            for path in set.intersection(*cheapest) & set(every.schemes)
            if self.constraints.share_range(kernels[path])[1] == 1.0
        }
        if not found:
            return
        rest = {p: s for p, s in every.schemes.items() if p not in found}
        self.cost = ModelCost(self.graph, rest, table)
        if self._out_of_reach():
            self.cost = every
        else:
            self.negligible = found

    def _free_units(self):
        free = self.graph.prunable & self.constraints.prune
        for node, ids in filters(self.graph):
            if self.constraints.skips(node):
                free[self.graph.units[ids]] = False
        return free

    def smallest(self):
        """Returns the smallest reachable amount of each resource."""
        neutral = np.zeros(self.graph.unit_count)
        ranks = [np.zeros(limit) for limit in self.cost.limits]
        events = Events(self, neutral, ranks)
        kept, ranks = events.select(events.none)
        return {
            resource: self.cost.count(resource, kept, ranks)
            for resource in self.cost.totals
        }

    def _out_of_reach(self):
        """Dict from each resource that cannot meet its limit to the least."""
        smallest = self.smallest()
        return {
            resource: smallest[resource]
            for resource, limit in self.limits.items()
            if limit < smallest[resource]
        }

    def _refuse_nothing(self):
        if self.free.any() or self.cost.decomposable.any():
            return
        raise ValueError(
            f"Nothing in the model can be compressed: of its "
            f"{len(self.cost.paths)} layers with a kernel, none may lose a "
            "filter and none may become a low-rank pair, with these "
            "constraints. `keras_df.inspect(model)` says why; a layer of "
            "your own needs a rule, see `keras_df.graph.register_rule`."
        )

    def _refuse_unreachable(self, budgets):
        for resource, least in self._out_of_reach().items():
            limit, total = self.limits[resource], self.cost.totals[resource]
            unit = "microseconds" if resource == LATENCY else resource
            raise ValueError(
                f"The budget of {limit:,} {unit} "
                f"({limit / total:.1%} of the model's {total:,}) cannot "
                f"be reached: the smallest is {least:,} "
                f"({least / total:.1%}) with these constraints"
                f"{_alone(self.constraints)}. Ask for "
                "more, or relax the constraints; `keras_df.inspect(model)`"
                " lists what cannot be compressed and why"
                f"{_hint(resource, budgets)}"
            )

    def fit(self, unit_scores, rank_scores):
        """Takes the best filters and singular values that the budgets allow.

        Args:
            unit_scores: Array of shape `(units,)`; the higher, the longer a
                unit stays.
            rank_scores: List with, per layer with a kernel, an array of shape
                `(rank,)` on the same scale as `unit_scores`, descending.

        Returns:
            A `Selection`.
        """
        events = Events(self, unit_scores, rank_scores)
        taken = self._fill(events, self._longest_prefix(events))
        kept, ranks = events.select(taken)
        paired = self.cost.is_pair(kept > 0, ranks)
        pairs = {
            path: int(rank)
            for path, rank, pair in zip(self.cost.paths, ranks, paired)
            if pair
        }
        schemes = {path: self.cost.schemes[path] for path in pairs}
        return Selection(kept > 0, pairs, schemes)

    def _fits(self, events, taken):
        kept, ranks = events.select(taken)
        return all(
            self.cost.count(resource, kept, ranks) <= limit
            for resource, limit in self.limits.items()
        )

    def _longest_prefix(self, events):
        low, high = 0, events.count
        while low < high:
            middle = (low + high + 1) // 2
            if self._fits(events, events.prefix(middle)):
                low = middle
            else:
                high = middle - 1
        return low

    def _fill(self, events, start):
        """Takes further events, best first, while they fit."""
        taken = events.prefix(start)
        closed = set()
        for event in range(start, min(events.count, start + FILL_TRIES)):
            # Each dimension grows step by step, or its counts are not those
            # that the constraints allow.
            if events.owners[event] in closed:
                continue
            taken[event] = True
            if not self._fits(events, taken):
                taken[event] = False
                closed.add(events.owners[event])
            elif self._is_full(events, taken):
                break
        return taken

    def _is_full(self, events, taken):
        kept, ranks = events.select(taken)
        return any(
            limit - self.cost.count(resource, kept, ranks)
            < SLACK * self.cost.totals[resource]
            for resource, limit in self.limits.items()
        )


def _cheapest(cost, resource):
    """Paths of the cheapest layers, `NEGLIGIBLE` together."""
    shares = cost.shares(resource)
    order = np.argsort(shares, kind="stable")
    count = np.searchsorted(np.cumsum(shares[order]), NEGLIGIBLE)
    return {cost.paths[layer] for layer in order[:count]}


def _alone(constraints):
    """What the constraints, or a baseline, leave a plan to do."""
    if not constraints.prune:
        return ", by ranks alone"
    return "" if constraints.decompose else ", by pruning alone"


def _hint(resource, budgets):
    """What a target such as 50 was probably meant to say."""
    targets = [x.target for x in budgets if x.resource == resource]
    if resource == LATENCY or not any(1 < x <= 100 for x in targets):
        return ""
    return (
        ". A target above 1 is an absolute amount: half of the original is "
        "0.5, not 50"
    )

"""inspect: what can be compressed, what cannot, and why."""

from dataclasses import dataclass

import keras
import numpy as np

from keras_df.budgets import as_budgets
from keras_df.budgets.allocation import Allocator
from keras_df.budgets.constraints import Constraints
from keras_df.budgets.constraints import as_constraints
from keras_df.budgets.cost import node_costs
from keras_df.graph import analyze


@dataclass(frozen=True)
class LayerInspection:
    """What can become of one layer.

    Attributes:
        name: Path of the layer.
        kind: Its class name.
        macs: Multiply-accumulates per sample, an integer.
        params: Parameters, an integer.
        channels: Number of output channels, 0 for a layer without a kernel.
        prunable: Number of output channels that can go.
        groups: Tuple of integers: the groups of coupled filters that the
            layer's prunable channels belong to. Layers that share a group
            lose the same filters.
        max_rank: Largest rank of the kernel, 0 if it cannot be decomposed.
        reasons: Tuple of strings, why the rest is left alone.
    """

    name: str
    kind: str
    macs: int
    params: int
    channels: int
    prunable: int
    groups: tuple
    max_rank: int
    reasons: tuple


@dataclass(frozen=True)
class Inspection:
    """What can become of a model.

    Attributes:
        layers: List of `LayerInspection`, in order of execution.
        totals: Dict from `"macs"`, `"flops"` and `"params"` to what the model
            uses, integers; with a `Latency` budget, also `"latency"`.
        smallest: Dict from the same names to the least that a plan can
            reach.
        prunable_share: Share of the MACs in layers whose filters can go, or
            that read filters that can go.
        decomposable_share: Share of the MACs in kernels that can be split.
    """

    layers: list
    totals: dict
    smallest: dict
    prunable_share: float
    decomposable_share: float

    def __str__(self):
        rows = [("layer", "MACs", "params", "prunable", "rank", "left alone")]
        for layer in self.layers:
            if not layer.channels and not layer.reasons:
                continue
            rows.append(
                (
                    layer.name,
                    f"{layer.macs:,}",
                    f"{layer.params:,}",
                    f"{layer.prunable} of {layer.channels}",
                    f"up to {layer.max_rank}" if layer.max_rank else "dense",
                    "; ".join(layer.reasons),
                )
            )
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = [
            "  ".join([*map(str.ljust, row[:5], widths), row[5]]).rstrip()
            for row in rows
        ]
        lines.insert(1, "-" * (sum(widths) + 8))
        lines.append("")
        for name, total in self.totals.items():
            least = self.smallest[name]
            lines.append(
                f"{name:7}{total:>16,}  smallest reachable {least:>14,} "
                f"({least / max(total, 1):.1%})"
            )
        lines.append(
            f"{self.prunable_share:.1%} of the MACs can be pruned, "
            f"{self.decomposable_share:.1%} decomposed."
        )
        return "\n".join(lines)


def inspect(
    model: keras.Model,
    budget=None,
    constraints: Constraints | None = None,
) -> Inspection:
    """Finds what can be compressed in a model, and why the rest cannot.

    Args:
        model: A built Functional or Sequential model. It is not modified.
        budget: Optional budget, or list of budgets, to check: it is refused
            if no plan can reach it.
        constraints: `keras_df.Constraints` to take into account.

    Returns:
        An `Inspection`; `print` it for a table.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If `model` is subclassed or not built, or `budget` cannot
            be reached.

    Example:

    >>> print(keras_df.inspect(keras.applications.ResNet50(weights=None)))
    """
    constraints = as_constraints(constraints)
    graph = analyze(model)
    budgets = [] if budget is None else as_budgets(budget)
    allocator = Allocator(graph, budgets, constraints)
    group_of = np.full(graph.unit_count, -1)
    for number, group in enumerate(allocator.groups):
        group_of[group] = number
    costs = node_costs(graph)
    layers = [
        _inspect_layer(node, cost, allocator, group_of)
        for node, cost in zip(graph.nodes.values(), costs)
    ]
    total = max(allocator.cost.totals["macs"], 1)
    touched = _touched_paths(graph, allocator.free)
    return Inspection(
        layers,
        allocator.cost.totals,
        allocator.smallest(),
        sum(x.macs for x in layers if x.name in touched) / total,
        sum(x.macs for x in layers if x.max_rank) / total,
    )


def _inspect_layer(node, cost, allocator, group_of):
    graph = allocator.graph
    common = {
        "name": node.path,
        "kind": type(node.operation).__name__,
        "macs": round(cost.amount("macs")),
        "params": round(cost.amount("params")),
    }
    if node.kernel is None:
        reasons = {x.reason for x in node.flow.outputs if x.axis is None}
        alone = reasons if common["params"] else ()
        return LayerInspection(
            **common,
            channels=0,
            prunable=0,
            groups=(),
            max_rank=0,
            reasons=tuple(sorted(alone)),
        )
    units = graph.units[node.kernel.outputs[1]]
    free = units[allocator.free[units]]
    scheme = allocator.cost.schemes.get(node.path)
    return LayerInspection(
        **common,
        channels=len(units),
        prunable=len(free),
        groups=tuple(np.unique(group_of[free]).tolist()),
        max_rank=cost.limit[scheme] if scheme else 0,
        reasons=tuple(_reasons(node, units, allocator, scheme)),
    )


def _reasons(node, units, allocator, scheme):
    constraints, known = allocator.constraints, allocator.graph.reasons
    seen = dict.fromkeys(known[int(u)] for u in units if int(u) in known)
    yield from (f"pruning: {reason}" for reason in seen)
    if constraints.skips(node):
        yield "skipped by the constraints"
    elif not constraints.prune:
        yield "pruning: the constraints do not allow it"
    elif any(not allocator.free[u] and int(u) not in known for u in units):
        yield "pruning: it shares filters with a layer that is skipped"
    if scheme is None and node.kernel.reason:
        yield f"decomposition: {node.kernel.reason}"
    elif node.path in allocator.negligible:
        yield "decomposition: the budget would not notice"
    elif not constraints.decompose:
        yield "decomposition: the constraints do not allow it"


def _touched_paths(graph, free):
    paths = set()
    for path, node in graph.nodes.items():
        ids = [tensor.ids for tensor in node.flow.outputs]
        if node.kernel is not None and node.kernel.inputs is not None:
            ids.append(node.kernel.inputs[1])
        if any(free[graph.units[x]].any() for x in ids):
            paths.add(path)
    return paths

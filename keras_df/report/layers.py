"""What a plan does to the cost of each layer."""

from dataclasses import dataclass

import keras

from keras_df.budgets.cost import node_costs
from keras_df.graph import analyze
from keras_df.plan import CompressionPlan


@dataclass(frozen=True)
class LayerChange:
    """What becomes of one layer, and of its cost per sample.

    Attributes:
        name: Path of the layer.
        kind: Its class name.
        channels: Number of output channels, 0 for a layer without a kernel.
        kept: Number of output channels that stay.
        rank: Rank of its low-rank pair, None if it stays dense.
        max_rank: Largest rank of the kernel, 0 if it stays dense.
        macs: Tuple of integers, multiply-accumulates before and after.
        params: Tuple of integers, parameters before and after.
    """

    name: str
    kind: str
    channels: int
    kept: int
    rank: int | None
    max_rank: int
    macs: tuple
    params: tuple


def layer_changes(
    model: keras.Model, plan: CompressionPlan
) -> list[LayerChange]:
    """Counts every layer of a model before and after a plan.

    Args:
        model: The model that the plan was made for.
        plan: `CompressionPlan`.

    Returns:
        List of `LayerChange` of the layers that have a kernel, parameters or
        multiply-accumulates, in order of execution. A low-rank pair counts
        as one layer.

    Raises:
        ValueError: If the plan does not fit the model.

    Example:

    >>> for layer in keras_df.report.layer_changes(model, plan):
    ...     print(layer.name, layer.macs)
    """
    graph = analyze(model)
    selection = plan.selection(graph)
    count = graph.keep(selection.kept).count
    changes = []
    for node, cost in zip(graph.nodes.values(), node_costs(graph)):
        rank = selection.ranks.get(node.path)
        scheme = selection.schemes.get(node.path, 1)
        macs, params = (
            (
                round(cost.amount(resource)),
                round(cost.amount(resource, count, rank, scheme)),
            )
            for resource in ("macs", "params")
        )
        planned = plan.layers.get(node.path)
        if planned is None and not macs[0] and not params[0]:
            continue
        changes.append(
            LayerChange(
                name=node.path,
                kind=type(node.operation).__name__,
                channels=planned.channels if planned else 0,
                kept=len(planned.kept) if planned else 0,
                rank=rank,
                max_rank=planned.max_rank if planned else 0,
                macs=macs,
                params=params,
            )
        )
    return changes

"""Counting what a model costs."""

from dataclasses import dataclass

from keras_df.budgets.cost import RESOURCES
from keras_df.budgets.cost import node_costs
from keras_df.graph import analyze


@dataclass(frozen=True)
class LayerCount:
    """MACs, FLOPs and parameters of one layer, as integers."""

    name: str
    kind: str
    macs: int
    flops: int
    params: int


@dataclass(frozen=True)
class Count:
    """What a model costs, per sample.

    Attributes:
        macs: Multiply-accumulates of convolutions, Dense layers and matrix
            products.
        flops: Two per multiply-accumulate, plus biases, normalization,
            pooling, merges and activations.
        params: Parameters, as `model.count_params()`.
        layers: List of `LayerCount`, in order of execution. Nested layers
            are named by the path that leads to them.
    """

    macs: int
    flops: int
    params: int
    layers: list

    def __str__(self):
        return (
            f"{self.macs:,} MACs, {self.flops:,} FLOPs, "
            f"{self.params:,} parameters"
        )


def count(model):
    """Counts a model's multiply-accumulates, FLOPs and parameters.

    Args:
        model: A built Functional or Sequential model. Where its input has an
            unknown size, 224 is assumed; where the model needs more, as one
            of audio may, 1024 or 16384.

    Returns:
        A `Count`, for a batch of one sample.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If `model` is subclassed or not built.

    Example:

    >>> print(keras_df.count(keras.applications.VGG16(weights=None)))
    15,470,264,320 MACs, ...
    """
    graph = analyze(model)
    layers = []
    for node, cost in zip(graph.nodes.values(), node_costs(graph)):
        amounts = {name: round(cost.amount(name)) for name in RESOURCES}
        kind = type(node.operation).__name__
        layers.append(LayerCount(node.path, kind, **amounts))
    totals = {
        name: sum(getattr(layer, name) for layer in layers)
        for name in RESOURCES
    }
    return Count(layers=layers, **totals)

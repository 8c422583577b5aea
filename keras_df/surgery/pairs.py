"""A layer -> the two layers that a low-rank kernel becomes."""

import numpy as np
from keras import layers

from keras_df.graph.twin import resizable_config

_CONVOLUTIONS = {
    layers.Conv1D: layers.Conv1D,
    layers.Conv2D: layers.Conv2D,
    layers.Conv3D: layers.Conv3D,
    layers.Conv1DTranspose: layers.Conv1D,
    layers.Conv2DTranspose: layers.Conv2D,
    layers.Conv3DTranspose: layers.Conv3D,
    layers.SeparableConv1D: layers.Conv1D,
    layers.SeparableConv2D: layers.Conv2D,
}
_TRANSPOSED = (
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
)
_CONSTRAINTS = ("kernel_constraint", "pointwise_constraint")
# Config keys that go to the second layer alone: it is the one that ends with
# the bias and the activation of the original.
_TAIL = {"use_bias": False, "activation": None, "activity_regularizer": None}


def make_pair(layer, kernel, rank, scheme, units):
    """Makes the layers of a low-rank pair, without weights.

    Args:
        layer: The layer to replace.
        kernel: Its `Kernel`.
        rank: Rank of the pair.
        scheme: Scheme of the pair (paper, Section 3.2).
        units: Number of output channels.

    Returns:
        Tuple `(first, second)` of layers.
    """
    if kernel.pair is not None:
        return kernel.pair(layer, rank, units)
    config = resizable_config(layer)
    # It would hold for each factor, and change what both compute.
    config.update({x: None for x in _CONSTRAINTS if x in config})
    name = config.pop("name")
    first = {**config, **_TAIL, "name": f"{name}_lowrank_in"}
    second = {**config, "name": f"{name}_lowrank_out"}
    kind = type(layer)
    if kind is layers.Dense:
        return (
            layers.Dense.from_config({**first, "units": rank}),
            layers.Dense.from_config({**second, "units": units}),
        )
    first["filters"], second["filters"] = rank, units
    if kind in _TRANSPOSED:
        plain = _pointwise(_CONVOLUTIONS[kind], first)
        return plain, kind.from_config(second)
    if scheme == 2:
        return _split(first, axis=1), _split(second, axis=0)
    pointwise = _pointwise(_CONVOLUTIONS[kind], second)
    return kind.from_config(first), pointwise


def _pointwise(kind, config):
    """A 1x1 convolution with what a config says beside the window."""
    example = kind(1, 1).get_config()
    kept = {key: value for key, value in config.items() if key in example}
    for long, short in (
        ("pointwise_initializer", "kernel_initializer"),
        ("pointwise_regularizer", "kernel_regularizer"),
        ("pointwise_constraint", "kernel_constraint"),
    ):
        if long in config:
            kept[short] = config[long]
    for key in ("kernel_size", "strides", "dilation_rate", "groups"):
        kept[key] = example[key]
    return kind.from_config({**kept, "padding": "valid"})


def _split(config, axis):
    """A convolution over the other axis only (Scheme 2)."""
    config = dict(config)
    for key in ("kernel_size", "strides", "dilation_rate"):
        value = list(config[key])
        value[axis] = 1
        config[key] = tuple(value)
    return layers.Conv2D.from_config(config)


def pair_kernels(kind, scheme, first, second, shape):
    """Arranges two factors like the kernels of a pair's layers.

    Args:
        kind: Type of the original layer.
        scheme: Scheme of the pair.
        first: Array of shape `(rows, rank)`.
        second: Array of shape `(rank, columns)`.
        shape: Shape of the (pruned) kernel that was decomposed.

    Returns:
        Tuple of two arrays, which have the order of the kernels' elements.
    """
    rank = first.shape[1]
    if kind in _TRANSPOSED:
        unfolded = second.reshape(rank, *shape[:-1])
        return first, np.moveaxis(unfolded, 0, -1)
    if scheme == 2:
        height, width, inputs, outputs = shape
        rows = second.reshape(rank, outputs, width, 1)
        columns = first.reshape(height, 1, inputs, rank)
        return columns, rows.transpose(3, 2, 0, 1)
    return first, second


def fill_in_pair(pair, attribute, kernels, weights):
    """Sets the weights of a pair.

    Args:
        pair: Tuple of two built layers.
        attribute: Name of the weight that was decomposed.
        kernels: What `pair_kernels` returned.
        weights: Dict of the other weights, by attribute. They go to the
            second layer if it has them, otherwise to the first.
    """
    for layer, value in zip(pair, kernels):
        name = attribute if hasattr(layer, attribute) else "kernel"
        weight = getattr(layer, name)
        weight.assign(value.reshape(weight.shape))
    for name, value in weights.items():
        first, second = pair
        owner = first if getattr(second, name, None) is None else second
        getattr(owner, name).assign(value)

"""A layer -> the two stock layers that a low-rank kernel becomes."""

import math

import numpy as np
from keras import layers

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
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
# Config keys that go to the second layer alone: it is the one that ends with
# the bias and the activation of the original.
_TAIL = {"use_bias": False, "activation": None, "activity_regularizer": None}


def make_pair(layer, rank, scheme, units):
    """Makes the layers of a low-rank pair, without weights.

    Args:
        layer: The layer to replace.
        rank: Rank of the pair.
        scheme: Scheme of the pair (paper, Section 3.2).
        units: Number of output channels.

    Returns:
        Tuple `(first, second)` of layers.
    """
    config = layer.get_config()
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
    """Folds two factors into the kernels of a pair's layers.

    Args:
        kind: Type of the original layer.
        scheme: Scheme of the pair.
        first: Array of shape `(rows, rank)`.
        second: Array of shape `(rank, columns)`.
        shape: Shape of the (pruned) kernel that was decomposed.

    Returns:
        Tuple of the two kernels.
    """
    rank = first.shape[1]
    if kind is layers.Dense:
        return first, second
    if kind in _TRANSPOSED:
        window = (1,) * (len(shape) - 2)
        unfolded = second.reshape(rank, *shape[:-1])
        return (
            first.reshape(*window, shape[-1], rank),
            np.moveaxis(unfolded, 0, -1),
        )
    if scheme == 2:
        height, width, inputs, outputs = shape
        columns = first.reshape(inputs, height, 1, rank)
        rows = second.reshape(rank, outputs, width, 1)
        return columns.transpose(1, 2, 0, 3), rows.transpose(3, 2, 0, 1)
    window = (1,) * (len(shape) - 2)
    assert math.prod(shape[:-1]) == len(first)
    return (
        first.reshape(*shape[:-1], rank),
        second.reshape(*window, rank, shape[-1]),
    )


def kernel_of(layer):
    """The weight of a pair's layer that holds its factor."""
    if isinstance(layer, _SEPARABLE):
        return layer.pointwise_kernel
    return layer.kernel

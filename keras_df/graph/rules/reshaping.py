"""Rules for what moves channels between axes: Flatten, Reshape, Permute."""

import math

import numpy as np
from keras import layers

from keras_df.graph.registry import Flow
from keras_df.graph.registry import register_rule
from keras_df.graph.rules.convolution import channel_axis


def reshaped(call):
    """Carries channels through a row-major reshape, by index arithmetic.

    Where the channels of one axis come to lie on several, the units are
    unified along all but one, so that what is removed stays a block. It is
    the last axis if channels lie on it, for that is what layers read.

    Args:
        call: The `Call`; its first tensor is reshaped to its first output.

    Returns:
        Tuple `(axis, ids)` of the result.

    Raises:
        ValueError: If the result cannot carry channels, with the reason.
    """
    tensor, shape = call.inputs[0], call.specs[0].shape
    if math.prod(tensor.shape[1:]) != math.prod(shape[1:]):
        raise ValueError("mixes the batch with other axes")
    source = [1] * (len(tensor.shape) - 1)
    source[tensor.axis - 1] = len(tensor.ids)
    full = np.broadcast_to(tensor.ids.reshape(source), tensor.shape[1:])
    full = full.reshape(shape[1:])
    varying = [
        axis
        for axis in range(full.ndim)
        if (full != full.take([0], axis)).any()
    ]
    if not varying:
        raise ValueError("drops an axis of one channel")
    last = full.ndim - 1
    axis = max(varying, key=lambda axis: (axis == last, full.shape[axis]))
    first = full
    for other in range(full.ndim):
        if other != axis:
            first = first.take([0], other)
    call.units.unify(np.broadcast_to(first, full.shape).ravel(), full.ravel())
    return axis + 1, first.ravel()


@register_rule(layers.Flatten)
def flatten(call):
    layer = call.operation
    if channel_axis(layer) == 1 and len(call.inputs[0].shape) > 2:
        return call.freeze(f"`{layer.name}` flattens channels_first data")
    return _moved(call)


def _moved(call, key=None, target=()):
    """The `Flow` of a reshape; `target` is the shape in its config."""
    if call.inputs[0].axis is None:
        return call.pass_on()
    try:
        axis, ids = reshaped(call)
    except ValueError as error:
        return call.freeze(f"`{call.operation.name}` {error}")
    config = {}
    if key is not None:
        place = axis - (len(call.specs[0].shape) - len(target))
        config[key] = _resized(tuple(target), place, ids)
    return Flow([call.output(axis, ids)], config=config)


def _resized(shape, axis, ids):
    """A function of a `Keep`: `shape` with the axis' size after removal."""

    def after(keep):
        if shape[axis] == -1:
            return shape
        return (*shape[:axis], keep.count(ids), *shape[axis + 1 :])

    return after


@register_rule(layers.Reshape)
def reshape(call):
    return _moved(call, "target_shape", call.operation.target_shape)


@register_rule("Reshape")
def reshape_operation(call):
    newshape = call.operation.newshape
    if isinstance(newshape, int):
        return call.freeze(f"`{call.operation.name}` flattens the batch")
    return _moved(call, "newshape", newshape)


@register_rule("Squeeze", "ExpandDims")
def unit_axes(call):
    """Axes of size 1 come and go; the channels keep their order."""
    return _moved(call)


def _order(operation, rank):
    """The axis of the input that each axis of the output was."""
    kind, axes = type(operation).__name__, np.arange(rank)
    if kind == "Permute":
        return (0, *operation.dims)
    if kind == "Moveaxis":
        shape = np.moveaxis(
            np.empty(axes + 1), operation.source, operation.destination
        ).shape
        return tuple(size - 1 for size in shape)
    if kind == "Swapaxes":
        pair = [operation.axis1, operation.axis2]
        axes[pair] = axes[pair[::-1]]
        return tuple(axes)
    return tuple(axes[::-1] if operation.axes is None else operation.axes)


@register_rule(layers.Permute, "Transpose", "Moveaxis", "Swapaxes")
def permute(call):
    tensor = call.inputs[0]
    if tensor.axis is None:
        return call.pass_on()
    rank = len(tensor.shape)
    order = [axis % rank for axis in _order(call.operation, rank)]
    if order[0] != 0:
        return call.freeze(f"`{call.operation.name}` moves the batch axis")
    return Flow([call.output(order.index(tensor.axis), tensor.ids)])


@register_rule(layers.RepeatVector)
def repeat_vector(call):
    return Flow([call.output(-1, call.read(call.inputs[0], -1))])


@register_rule(
    *("Mean", "Sum", "Max", "Min", "Amax", "Amin", "Var", "Std", "Prod"),
    *("Any", "All", "Median", "CountNonzero", "Logsumexp", "Nansum"),
    *("Nanmean", "Nanmax", "Nanmin", "Nanprod", "Nanstd", "Nanvar"),
    *("Nanmedian", "Argmax", "Argmin", "Norm", "Ptp", "Moments"),
)
def reduction(call):
    """A reduction over space keeps the channels; over channels reads them."""
    tensor, operation = call.inputs[0], call.operation
    if tensor.axis is None:
        return call.pass_on()
    rank = len(tensor.shape)
    kind = type(operation).__name__
    axes = operation.axes if kind == "Moments" else operation.axis
    axes = range(rank) if axes is None else np.atleast_1d(axes)
    axes = {int(axis) % rank for axis in axes}
    if tensor.axis in axes or 0 in axes:
        return call.freeze(f"`{operation.name}` reads across channels")
    axis = tensor.axis
    if len(call.specs[0].shape) < rank:
        axis -= sum(reduced < tensor.axis for reduced in axes)
    count = range(len(call.specs))
    return Flow([call.output(axis, tensor.ids, i) for i in count])


@register_rule("SpaceToDepth", "DepthToSpace")
def depth_and_space(call):
    """Each channel comes to lie in every block, or the blocks' channels in one.

    Blocks that become space lose the same channels.
    """
    axis = channel_axis(call.operation)
    tensor = call.inputs[0]
    if tensor.axis is None:
        return call.pass_on()
    if axis == 1:
        return call.freeze(f"`{call.operation.name}` is channels_first")
    ids, blocks = call.read(tensor, axis), call.operation.block_size**2
    if type(call.operation).__name__ == "SpaceToDepth":
        return Flow([call.output(axis, np.tile(ids, blocks))])
    by_block = ids.reshape(blocks, -1)
    head = np.broadcast_to(by_block[:1], by_block.shape)
    call.units.unify(head.ravel(), by_block.ravel())
    return Flow([call.output(axis, by_block[0])])

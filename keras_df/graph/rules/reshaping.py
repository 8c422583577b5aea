"""Rules for what moves channels between axes: Flatten, Reshape, Permute."""

import keras
import numpy as np
from keras import layers

from keras_df.graph.registry import Flow
from keras_df.graph.registry import register_rule
from keras_df.graph.rules.elementwise import pass_through


def reshaped(call, shape):
    """Carries channels through a row-major reshape, by index arithmetic.

    Where the channels of one axis come to lie on several, the units along
    all but the widest are unified: what is removed stays a block.

    Args:
        call: The `Call`; its first tensor is reshaped.
        shape: Shape of the result, batch size first.

    Returns:
        Tuple `(axis, ids)` of the result, or None for an opaque one.
    """
    tensor = call.inputs[0]
    if tensor.axis is None:
        return None
    if None in tensor.shape[1:] or None in shape[1:]:
        call.units.freeze(
            tensor.ids, f"`{call.operation.name}` reshapes an unknown size"
        )
        return None
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
        call.units.freeze(tensor.ids, "a reshape drops its axis")
        return None
    axis = max(varying, key=lambda axis: full.shape[axis])
    first = full
    for other in range(full.ndim):
        if other != axis:
            first = first.take([0], other)
    call.units.unify(np.broadcast_to(first, full.shape).ravel(), full.ravel())
    return axis + 1, first.ravel()


@register_rule(layers.Flatten)
def flatten(call):
    tensor = call.inputs[0]
    layer = call.operation
    if layer.data_format == "channels_first" and len(tensor.shape) > 2:
        return call.freeze(f"`{layer.name}` flattens channels_first data")
    moved = reshaped(call, tuple(call.specs[0].shape))
    if moved is None:
        return Flow(call.opaque(tensor.reason or "it is flattened"))
    return Flow([call.output(*moved)])


def _kept_shape(shape, axis, ids):
    """A function of a `Keep`: `shape` with the axis' size after removal."""

    def resized(keep):
        if shape[axis] == -1:
            return tuple(shape)
        return (*shape[:axis], keep.count(ids), *shape[axis + 1 :])

    return resized


@register_rule(layers.Reshape)
def reshape(call):
    tensor = call.inputs[0]
    target = tuple(call.operation.target_shape)
    moved = reshaped(call, tuple(call.specs[0].shape))
    if moved is None:
        return Flow(call.opaque(tensor.reason or "it is reshaped"))
    axis, ids = moved
    return Flow(
        [call.output(axis, ids)],
        config={"target_shape": _kept_shape(target, axis - 1, ids)},
    )


@register_rule("Reshape")
def reshape_operation(call):
    tensor = call.inputs[0]
    moved = reshaped(call, tuple(call.specs[0].shape))
    if moved is None:
        return Flow(call.opaque(tensor.reason or "it is reshaped"))
    axis, ids = moved
    resized = _kept_shape(tuple(call.operation.newshape), axis, ids)
    return Flow(
        [call.output(axis, ids)],
        call=lambda keep: lambda x: keras.ops.reshape(x, resized(keep)),
    )


@register_rule(layers.Permute, "Transpose")
def permute(call):
    tensor = call.inputs[0]
    if tensor.axis is None:
        return Flow(call.opaque(tensor.reason))
    if isinstance(call.operation, layers.Permute):
        order = (0, *call.operation.dims)
    else:
        rank = len(tensor.shape)
        order = call.operation.axes or tuple(reversed(range(rank)))
    order = [axis % len(tensor.shape) for axis in order]
    return Flow([call.output(order.index(tensor.axis), tensor.ids)])


@register_rule(layers.RepeatVector)
def repeat_vector(call):
    return Flow([call.output(-1, call.read(call.inputs[0], -1))])


@register_rule("Squeeze", "ExpandDims")
def unit_axes(call):
    """Axes of size 1 come and go; the channels keep their order."""
    moved = reshaped(call, tuple(call.specs[0].shape))
    if moved is None:
        reason = call.inputs[0].reason or "its axis is dropped"
        return Flow(call.opaque(reason))
    return Flow([call.output(*moved)])


@register_rule("Mean", "Sum", "Max", "Min", "Amax", "Amin", "Var", "Std")
def reduction(call):
    """A reduction over space keeps the channels; over channels reads them."""
    tensor = call.inputs[0]
    if tensor.axis is None:
        return Flow(call.opaque(tensor.reason))
    rank = len(tensor.shape)
    axes = call.operation.axis
    axes = range(rank) if axes is None else np.atleast_1d(axes)
    axes = {int(axis) % rank for axis in axes}
    if tensor.axis in axes or 0 in axes:
        return call.freeze(f"`{call.operation.name}` reads across channels")
    if call.operation.keepdims:
        return pass_through(call)
    dropped = sum(axis < tensor.axis for axis in axes)
    return Flow([call.output(tensor.axis - dropped, tensor.ids)])

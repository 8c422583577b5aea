"""Rules for what joins several tensors: Add, Multiply, Concatenate, ..."""

import keras
import numpy as np
from keras import layers

from keras_df.graph.call import is_constant
from keras_df.graph.call import positions
from keras_df.graph.channels import Channels
from keras_df.graph.registry import Flow
from keras_df.graph.registry import register_rule

BROADCAST = "one of its channels is broadcast over many"
CONSTANT = "it meets a constant with a value for each channel"


@register_rule(
    layers.Add,
    layers.Subtract,
    layers.Multiply,
    layers.Average,
    layers.Maximum,
    layers.Minimum,
    "CustomScaleLayer",
    *("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "DivideNoNan"),
    *("FloorDivide", "Mod", "Fmod", "Power", "Maximum", "Minimum"),
    *("Fmax", "Fmin", "Arctan2", "Hypot", "Logaddexp", "Logaddexp2"),
    *("Where", "Equal", "NotEqual", "Greater", "GreaterEqual", "Less"),
    *("LessEqual", "LogicalAnd", "LogicalOr", "LogicalXor", "Heaviside"),
)
def elementwise_merge(call):
    """Unifies the operands' channels, elementwise, under broadcasting."""
    flops = max(len(call.inputs) - 1, 1) * positions(call.specs[0].shape)
    axes = {x.axis - len(x.shape) for x in call.inputs if x.axis is not None}
    if not axes:
        return call.freeze(call.inputs[0].reason, flops=flops)
    if len(axes) > 1:
        reason = f"`{call.operation.name}` combines channels on different axes"
        return call.freeze(reason, flops=flops)
    (axis,) = axes
    width = call.specs[0].shape[axis]
    follows = [_width(value, axis) == width > 1 for value in call.constants]
    is_layer = isinstance(call.operation, keras.Layer)
    if _spreads(call) or (is_layer and any(follows)):
        return call.freeze(CONSTANT, flops=flops)
    ids = _unified(call, axis, width)
    if ids is None:
        return call.freeze(BROADCAST, flops=flops)
    return Flow(
        [call.output(axis, ids)],
        call=_with_sliced_constants(axis, ids) if any(follows) else None,
        flops=[(flops / width, ids)],
    )


def _unified(call, axis, width):
    """Unifies the operands; None if no operand has all channels."""
    ids = None
    for tensor in call.inputs:
        own = _operand_ids(call, tensor, axis, width)
        if own is not None and ids is not None:
            call.units.unify(ids, own)
        ids = own if ids is None else ids
    return ids


def _operand_ids(call, tensor, axis, width):
    """Unit ids that an operand has along the channel axis, None if it has
    one value for all channels."""
    if len(tensor.shape) < -axis:
        return None
    if tensor.shape[axis] == width:
        return call.read(tensor, axis)
    call.units.freeze(tensor.ids, BROADCAST)
    return None


def _width(value, axis):
    """Size of an array along the channel axis, counted from the end."""
    return value.shape[axis] if value.ndim >= -axis else 1


def _spreads(call):
    """Tells whether an array adds axes, or has one value per sample."""
    rank = max(len(tensor.shape) for tensor in call.inputs)
    return any(
        value.ndim > rank or (value.ndim == rank and value.shape[0] != 1)
        for value in call.constants
    )


def _with_sliced_constants(axis, ids):
    def call(keep, operation, *args, **kwargs):
        def sliced(value):
            if not is_constant(value):
                return value
            array = np.asarray(value)
            if _width(array, axis) != len(ids) or len(ids) == 1:
                return value
            array = np.take(array, keep.positions(ids), axis=axis)
            return array if hasattr(value, "shape") else array.tolist()

        args = [sliced(value) for value in args]
        kwargs = {key: sliced(value) for key, value in kwargs.items()}
        return operation(*args, **kwargs)

    return call


@register_rule(layers.Concatenate, "Concatenate")
def concatenate(call):
    rank = len(call.specs[0].shape)
    axis = call.operation.axis % rank
    carriers = {x.axis for x in call.inputs if x.axis is not None}
    if not carriers:
        return call.pass_on()
    if len(carriers) > 1:
        return call.freeze(
            f"`{call.operation.name}` joins channels of different axes"
        )
    parts = _parts(call)
    if carriers == {axis}:
        ids = [_part_ids(call, part, axis) for part in parts]
        return Flow([call.output(axis, np.concatenate(ids))])
    if len(parts) != len(call.inputs):
        return call.freeze(CONSTANT)
    (carrier,) = carriers
    return Flow([call.output(carrier, _unify_all(call, carrier))])


def _parts(call):
    """What is joined, in order: tensors and arrays."""
    struct = call.args[0] if call.args else next(iter(call.kwargs.values()))
    return list(struct)


def _part_ids(call, part, axis):
    if isinstance(part, Channels):
        return call.read(part, axis)
    return call.units.frozen(np.shape(part)[axis], CONSTANT)


def _unify_all(call, axis):
    ids = [call.read(tensor, axis) for tensor in call.inputs]
    for other in ids[1:]:
        call.units.unify(ids[0], other)
    return ids[0]


@register_rule("Stack")
def stack(call):
    """A new axis beside the channels, which all operands share."""
    carriers = {x.axis for x in call.inputs if x.axis is not None}
    axis = call.operation.axis % len(call.specs[0].shape)
    if not carriers:
        return call.pass_on()
    if len(carriers) > 1 or axis == 0 or len(_parts(call)) != len(call.inputs):
        return call.freeze(f"`{call.operation.name}` stacks unlike tensors")
    (carrier,) = carriers
    ids = _unify_all(call, carrier)
    return Flow([call.output(carrier + (axis <= carrier), ids)])

"""Rules for what joins several tensors: Add, Multiply, Concatenate, ..."""

import numpy as np
from keras import layers
from keras import tree

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
    "Add",
    "Subtract",
    "Multiply",
    "Divide",
    "TrueDivide",
    "DivideNoNan",
    "Maximum",
    "Minimum",
    "Power",
    "Where",
    "Equal",
    "NotEqual",
    "Greater",
    "GreaterEqual",
    "Less",
    "LessEqual",
    "LogicalAnd",
    "LogicalOr",
    "Logaddexp",
)
def elementwise_merge(call):
    """Unifies the operands' channels, elementwise, under broadcasting."""
    rank = len(call.specs[0].shape)
    axes = {_aligned(x, rank) for x in call.inputs if x.axis is not None}
    if not axes:
        flow = call.freeze(call.inputs[0].reason)
        return Flow(flow.outputs, flops=call.each(_operations(call)))
    if len(axes) > 1:
        return call.freeze(
            f"`{call.operation.name}` combines channels on different axes"
        )
    if _has_constant_vector(call):
        return call.freeze(CONSTANT)
    (axis,) = axes
    width = call.specs[0].shape[axis]
    ids = None
    for tensor in call.inputs:
        own = _operand_ids(call, tensor, axis - rank, width)
        if own is not None and ids is not None:
            call.units.unify(ids, own)
        ids = own if ids is None else ids
    if ids is None:
        return call.freeze(BROADCAST)
    result = call.output(axis, ids)
    return Flow([result], flops=call.each(_operations(call), channels=result))


def _operations(call):
    return max(len(call.inputs) - 1, 1)


def _aligned(tensor, rank):
    return tensor.axis + rank - len(tensor.shape)


def _operand_ids(call, tensor, axis, width):
    """Unit ids that an operand has along the channel axis, None if it has
    one value for all channels."""
    if len(tensor.shape) < -axis:
        return None
    if tensor.shape[axis] == width:
        return call.read(tensor, axis)
    call.units.freeze(tensor.ids, BROADCAST)
    return None


def _has_constant_vector(call):
    flat = tree.flatten((call.args, call.kwargs))
    return any(
        np.size(value) > 1
        for value in flat
        if hasattr(value, "shape") and not isinstance(value, Channels)
    )


@register_rule(layers.Concatenate, "Concatenate")
def concatenate(call):
    rank = len(call.specs[0].shape)
    axis = call.operation.axis % rank
    carriers = {x.axis for x in call.inputs if x.axis is not None}
    if not carriers:
        return call.freeze(call.inputs[0].reason)
    if carriers == {axis}:
        ids = [call.read(tensor, axis) for tensor in call.inputs]
        return Flow([call.output(axis, np.concatenate(ids))])
    if len(carriers) > 1:
        return call.freeze(
            f"`{call.operation.name}` joins channels of different axes"
        )
    (carrier,) = carriers
    ids = [call.read(tensor, carrier) for tensor in call.inputs]
    for other in ids[1:]:
        call.units.unify(ids[0], other)
    return Flow([call.output(carrier, ids[0])])

"""Rules for what takes a tensor apart or repeats it, along any axis."""

import numbers

import numpy as np
from keras.src.ops.numpy import Take

from keras_df.graph.channels import Channels
from keras_df.graph.registry import Flow
from keras_df.graph.registry import register_rule
from keras_df.graph.rules.elementwise import pass_through


@register_rule("Pad")
def pad(call):
    """Padding on the channel axis adds units that nobody writes.

    Such a channel is constant, so it may go whenever all that it is added to
    goes: it joins the unit that it meets.
    """
    tensor = call.inputs[0]
    operation = call.operation
    if tensor.axis is None:
        return call.pass_on()
    widths = [tuple(width) for width in operation.pad_width]
    if len(widths) == 1:
        widths *= len(tensor.shape)
    before, after = widths[tensor.axis]
    if not before and not after:
        return pass_through(call)
    if operation.mode != "constant":
        return call.freeze(f"`{operation.name}` repeats channels")
    left, right = call.units.fresh(before), call.units.fresh(after)

    def pad_width(keep):
        kept = list(widths)
        kept[tensor.axis] = (keep.count(left), keep.count(right))
        return kept

    ids = np.concatenate([left, tensor.ids, right])
    return Flow(
        [call.output(tensor.axis, ids)], config={"pad_width": pad_width}
    )


@register_rule("GetItem")
def get_item(call):
    tensor = call.inputs[0]
    if tensor.axis is None:
        return call.pass_on()
    name = call.operation.name
    key = call.args[1] if len(call.args) > 1 else call.kwargs["key"]
    try:
        key = _expanded(key, len(tensor.shape))
    except ValueError as error:
        return call.freeze(f"`{name}` {error}")
    place, axis = _channel_axis_after(key, tensor.axis)
    if not isinstance(key[place], slice) or key[0] != slice(None):
        return call.freeze(f"`{name}` picks single channels or samples")
    picked = np.arange(len(tensor.ids))[key[place]]
    if np.array_equal(picked, np.arange(len(tensor.ids))):
        return Flow([call.output(axis, tensor.ids)])

    def item(keep, operation, x, key):
        where = _kept_positions(keep, tensor.ids, picked)
        parts = list(expanded)
        if (np.diff(where) == 1).all():
            parts[place] = slice(int(where[0]), int(where[-1]) + 1)
            return operation(x, tuple(parts))
        parts[place] = slice(None)
        take = Take(axis=axis, name=f"{name}_channels")
        return take(operation(x, tuple(parts)), where.tolist())

    expanded = tuple(key)
    return Flow([call.output(axis, tensor.ids[picked])], call=item)


def _expanded(key, rank):
    """Writes an index out, one entry per axis, without Ellipsis."""
    basic = (numbers.Integral, slice, type(None), type(Ellipsis))
    key = list(key) if isinstance(key, (tuple, list)) else [key]
    if not all(isinstance(entry, basic) for entry in key):
        raise ValueError("is indexed by a tensor")
    used = sum(entry is not None and entry is not Ellipsis for entry in key)
    if not any(entry is Ellipsis for entry in key):
        key.append(Ellipsis)
    place = next(i for i, entry in enumerate(key) if entry is Ellipsis)
    key[place : place + 1] = [slice(None)] * (rank - used)
    return key


def _channel_axis_after(key, axis):
    """Returns the entry of `key` for an axis, and where the axis ends up."""
    source = result = 0
    for place, entry in enumerate(key):
        if entry is None:
            result += 1
            continue
        if source == axis:
            return place, result
        source += 1
        result += isinstance(entry, slice)
    raise ValueError("indexes too few axes")


def _kept_positions(keep, ids, picked):
    """Positions, after removal, of those of `picked` that stay."""
    mask = keep.mask(ids)
    moved = np.cumsum(mask) - 1
    return moved[picked[mask[picked]]]


@register_rule("Take")
def take(call):
    tensor, operation = call.inputs[0], call.operation
    indices = call.args[1] if len(call.args) > 1 else call.kwargs["indices"]
    if tensor.axis is None and len(call.inputs) == 1:
        return call.pass_on()
    if operation.axis is None or isinstance(indices, Channels):
        return call.freeze(f"`{operation.name}` is indexed by a tensor")
    indices = np.asarray(indices)
    axis = operation.axis % len(tensor.shape)
    if axis == 0:
        return call.freeze(f"`{operation.name}` picks samples")
    if axis != tensor.axis:
        moved = (indices.ndim - 1) * (axis < tensor.axis)
        return Flow([call.output(tensor.axis + moved, tensor.ids)])
    if indices.ndim != 1:
        return call.freeze(f"`{operation.name}` picks single channels")
    picked = np.arange(len(tensor.ids))[indices]

    def taken(keep, operation, x, indices):
        where = _kept_positions(keep, tensor.ids, picked)
        return operation(x, where.tolist())

    return Flow([call.output(axis, tensor.ids[picked])], call=taken)


@register_rule("Split")
def split(call):
    tensor = call.inputs[0]
    if tensor.axis is None:
        return call.pass_on()
    axis = call.operation.axis % len(tensor.shape)
    count = range(len(call.specs))
    if axis == 0:
        return call.freeze(f"`{call.operation.name}` splits the batch")
    if axis != tensor.axis:
        return Flow([call.output(tensor.axis, tensor.ids, i) for i in count])
    borders = np.cumsum([spec.shape[axis] for spec in call.specs])[:-1]
    pieces = np.split(tensor.ids, borders)

    def indices(keep):
        sizes = [keep.count(piece) for piece in pieces]
        return np.cumsum(sizes)[:-1].tolist()

    return Flow(
        [call.output(axis, pieces[i], i) for i in count],
        config={"indices_or_sections": indices} if len(pieces) > 1 else {},
    )


@register_rule("Glu")
def gated_linear_unit(call):
    """The two halves, one the gate of the other, lose the same channels."""
    tensor = call.inputs[0]
    if tensor.axis is None:
        return call.pass_on()
    axis = call.operation.axis % len(tensor.shape)
    if axis != tensor.axis:
        return pass_through(call)
    values, gates = np.split(tensor.ids, 2)
    call.units.unify(values, gates)
    return Flow([call.output(axis, values)])


@register_rule("Unstack")
def unstack(call):
    tensor = call.inputs[0]
    if tensor.axis is None:
        return call.pass_on()
    axis = call.operation.axis % len(tensor.shape)
    if axis in (0, tensor.axis):
        return call.freeze(f"`{call.operation.name}` picks single channels")
    place = tensor.axis - (axis < tensor.axis)
    count = range(len(call.specs))
    return Flow([call.output(place, tensor.ids, i) for i in count])


@register_rule("Flip")
def flip(call):
    tensor, axes = call.inputs[0], call.operation.axis
    if tensor.axis is None:
        return call.pass_on()
    rank = len(tensor.shape)
    axes = range(rank) if axes is None else np.atleast_1d(axes) % rank
    ids = tensor.ids[::-1] if tensor.axis in axes else tensor.ids
    return Flow([call.output(tensor.axis, ids)])


@register_rule("Roll")
def roll(call):
    tensor, operation = call.inputs[0], call.operation
    if tensor.axis is None:
        return call.pass_on()
    shift, axis = operation.shift, operation.axis
    if not isinstance(shift, int) or not isinstance(axis, int):
        return call.freeze(f"`{operation.name}` rolls several axes")
    if axis % len(tensor.shape) != tensor.axis:
        return pass_through(call)
    ids = np.roll(tensor.ids, shift)
    first = ids[: shift % len(ids)]
    return Flow(
        [call.output(tensor.axis, ids)],
        config={"shift": lambda keep: keep.count(first)},
    )


@register_rule("Tile")
def tile(call):
    tensor = call.inputs[0]
    repeats = call.operation.repeats
    if tensor.axis is None:
        return call.pass_on()
    repeats = (repeats,) if isinstance(repeats, int) else tuple(repeats)
    rank = len(tensor.shape)
    if len(repeats) > rank:
        return call.freeze(f"`{call.operation.name}` adds axes")
    repeats = (1,) * (rank - len(repeats)) + repeats
    ids = np.tile(tensor.ids, repeats[tensor.axis])
    return Flow([call.output(tensor.axis, ids)])


@register_rule("Repeat")
def repeat(call):
    tensor, operation = call.inputs[0], call.operation
    if tensor.axis is None:
        return call.pass_on()
    if operation.axis is None or not isinstance(operation.repeats, int):
        return call.freeze(f"`{operation.name}` repeats unevenly")
    ids = tensor.ids
    if operation.axis % len(tensor.shape) == tensor.axis:
        ids = np.repeat(ids, operation.repeats)
    return Flow([call.output(tensor.axis, ids)])

"""Rules for operations whose own arguments follow channels."""

import keras
import numpy as np

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
        return Flow(call.opaque(tensor.reason))
    widths = [tuple(width) for width in operation.pad_width]
    if len(widths) == 1:
        widths *= len(tensor.shape)
    before, after = widths[tensor.axis]
    if not before and not after:
        return pass_through(call)
    if operation.mode != "constant":
        return call.freeze(f"`{operation.name}` repeats channels")
    left, right = call.units.fresh(before), call.units.fresh(after)

    def padded(keep):
        kept = list(widths)
        kept[tensor.axis] = (keep.count(left), keep.count(right))
        return lambda x, constant_values=None: keras.ops.pad(
            x, kept, constant_values=constant_values
        )

    ids = np.concatenate([left, tensor.ids, right])
    return Flow([call.output(tensor.axis, ids)], call=padded)


@register_rule("GetItem")
def get_item(call):
    tensor = call.inputs[0]
    if tensor.axis is None:
        return Flow(call.opaque(tensor.reason))
    key = call.args[1] if len(call.args) > 1 else call.kwargs["key"]
    try:
        key = _expanded(key, len(tensor.shape))
    except ValueError as error:
        return call.freeze(f"`{call.operation.name}` {error}")
    place, axis = _channel_axis_after(key, tensor.axis)
    chosen = key[place]
    if not isinstance(chosen, slice) or key[0] != slice(None):
        return call.freeze(f"`{call.operation.name}` picks single channels")
    picked = np.arange(len(tensor.ids))[chosen]
    if picked.size == len(tensor.ids) and (np.diff(picked) > 0).all():
        return Flow([call.output(axis, tensor.ids)])

    before, after = key[:place], key[place + 1 :]

    def item(keep):
        where = _kept_positions(keep, tensor.ids, picked)
        if (np.diff(where) == 1).all():
            kept = slice(int(where[0]), int(where[-1]) + 1)
            return lambda x, key=None: x[(*before, kept, *after)]
        rest = (*before, slice(None), *after)
        return lambda x, key=None: keras.ops.take(x[rest], where, axis=axis)

    return Flow([call.output(axis, tensor.ids[picked])], call=item)


def _expanded(key, rank):
    """Writes an index out, one entry per axis, without Ellipsis."""
    basic = (int, slice, type(None), type(Ellipsis))
    if isinstance(key, list) and any(isinstance(x, slice) for x in key):
        key = tuple(key)  # A reloaded model has lists in place of tuples.
    key = list(key) if isinstance(key, tuple) else [key]
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


@register_rule("Split")
def split(call):
    tensor = call.inputs[0]
    operation = call.operation
    if tensor.axis is None:
        return Flow(call.opaque(tensor.reason))
    axis = operation.axis % len(tensor.shape)
    if axis != tensor.axis:
        return Flow(
            [
                call.output(tensor.axis, tensor.ids, index)
                for index in range(len(call.specs))
            ]
        )
    sizes = [spec.shape[axis] for spec in call.specs]
    borders = np.cumsum(sizes)[:-1]
    pieces = np.split(tensor.ids, borders)

    def pieces_of(keep):
        kept = np.cumsum([keep.count(piece) for piece in pieces])[:-1]
        return lambda x: keras.ops.split(x, kept.tolist(), axis=axis)

    outputs = [
        call.output(axis, piece, index) for index, piece in enumerate(pieces)
    ]
    return Flow(outputs, call=pieces_of)

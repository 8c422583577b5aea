"""Rules for recurrent layers: left alone, their multiply-accumulates count."""

import math

from keras import layers

from keras_df.graph.registry import register_rule


@register_rule(
    layers.SimpleRNN,
    layers.GRU,
    layers.LSTM,
    layers.RNN,
    layers.ConvLSTM1D,
    layers.ConvLSTM2D,
    layers.ConvLSTM3D,
    layers.Bidirectional,
)
def recurrent(call):
    layer = call.operation
    parts = [layer]
    if isinstance(layer, layers.Bidirectional):
        parts = [layer.forward_layer, layer.backward_layer]
    return call.freeze(
        f"`{layer.name}` is recurrent, and is left alone",
        macs=sum(_recurrent_macs(call, part) for part in parts),
    )


def _recurrent_macs(call, layer):
    """Each step applies both kernels, a ConvLSTM at every position.

    The cells of a bare RNN may compute anything; only those with kernels of
    the usual names count.
    """
    cells = getattr(layer.cell, "cells", [layer.cell])
    kernels = [
        getattr(cell, name, None)
        for cell in cells
        for name in ("kernel", "recurrent_kernel")
    ]
    steps = call.inputs[0].shape[1]
    sizes = [math.prod(x.shape) for x in kernels if x is not None]
    return steps * _area(call) * sum(sizes)


def _area(call):
    """Number of positions of a state."""
    inner = getattr(call.operation, "cell", None)
    if getattr(inner, "rank", None) is None:
        return 1
    shape = list(call.specs[0].shape[1:])
    if call.operation.return_sequences:
        del shape[0]
    first = call.operation.data_format == "channels_first"
    del shape[0 if first else -1]
    return math.prod(shape)

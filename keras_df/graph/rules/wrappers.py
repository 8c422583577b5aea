"""Rules for layers around layers: left alone, what they wrap is counted."""

from keras import layers

from keras_df.graph.analysis import macs_of
from keras_df.graph.channels import Channels
from keras_df.graph.registry import register_rule


@register_rule(layers.TimeDistributed)
def time_distributed(call):
    layer, tensor = call.operation, call.inputs[0]
    step = Channels((None, *tensor.shape[2:]), dtype=tensor.dtype)
    return call.freeze(
        f"`{layer.name}` applies a layer to each step, and is left alone",
        macs=tensor.shape[1] * macs_of(layer.layer, [step]),
    )


@register_rule(layers.SpectralNormalization)
def spectral_normalization(call):
    layer = call.operation
    return call.freeze(
        f"`{layer.name}` normalizes the kernel of another layer",
        macs=macs_of(layer.layer, call.inputs),
    )

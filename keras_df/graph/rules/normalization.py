"""Rules for normalization layers."""

from keras import layers

from keras_df.graph.registry import Flow
from keras_df.graph.registry import register_rule


@register_rule(layers.BatchNormalization)
def batch_normalization(call):
    layer = call.operation
    ids = call.read(call.inputs[0], layer.axis)
    result = call.output(layer.axis, ids)
    names = ["moving_mean", "moving_variance"]
    names += ["gamma"] * layer.scale + ["beta"] * layer.center
    return Flow(
        [result],
        weights={name: {0: ids} for name in names},
        flops=call.each(2, channels=result),
    )


@register_rule(
    layers.LayerNormalization,
    layers.GroupNormalization,
    layers.RMSNormalization,
    layers.UnitNormalization,
    layers.SpectralNormalization,
)
def reads_across_channels(call):
    flow = call.freeze(f"`{call.operation.name}` reads across channels")
    return Flow(flow.outputs, flops=call.each(2))


@register_rule(layers.Normalization)
def feature_normalization(call):
    flow = call.freeze(f"`{call.operation.name}` has a constant per channel")
    return Flow(flow.outputs, flops=call.each(2))

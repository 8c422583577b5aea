"""Rules for normalization layers."""

from keras import layers

from keras_df.graph.call import positions
from keras_df.graph.registry import Flow
from keras_df.graph.registry import register_rule


@register_rule(layers.BatchNormalization)
def batch_normalization(call):
    layer = call.operation
    ids = call.read(call.inputs[0], layer.axis)
    result = call.output(layer.axis, ids)
    names = _statistics(layer) + _affine(layer)
    return Flow(
        [result],
        weights={name: {0: ids} for name in names},
        flops=call.each(2, channels=result),
    )


def _statistics(layer):
    names = ["moving_mean", "moving_variance"]
    if getattr(layer, "renorm", False):
        names += ["moving_stddev", "renorm_mean", "renorm_stddev"]
    return names


def _affine(layer):
    return ["gamma"] * layer.scale + ["beta"] * layer.center


@register_rule(layers.GroupNormalization)
def group_normalization(call):
    """With one channel per group (instance normalization), none is read by
    another."""
    layer = call.operation
    ids = call.read(call.inputs[0], layer.axis)
    if layer.groups != len(ids):
        return reads_across_channels(call)
    result = call.output(layer.axis, ids)
    return Flow(
        [result],
        weights={name: {0: ids} for name in _affine(layer)},
        config={"groups": lambda keep: keep.count(ids)},
        flops=call.each(2, channels=result),
    )


@register_rule(
    layers.LayerNormalization,
    layers.RMSNormalization,
    layers.UnitNormalization,
)
def reads_across_channels(call):
    return call.freeze(
        f"`{call.operation.name}` reads across channels",
        flops=2 * positions(call.specs[0].shape),
    )


@register_rule(layers.Normalization)
def feature_normalization(call):
    return call.freeze(
        f"`{call.operation.name}` has a constant per channel",
        flops=2 * positions(call.specs[0].shape),
    )

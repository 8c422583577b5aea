"""Rules for pooling, padding, cropping and resizing in space."""

import math

from keras import layers

from keras_df.graph.registry import Flow
from keras_df.graph.registry import positions
from keras_df.graph.registry import register_rule
from keras_df.graph.rules.convolution import channel_axis

_POOLING = (
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
)
_GLOBAL_POOLING = (
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
)


@register_rule(*_POOLING)
def pooling(call):
    axis = channel_axis(call.operation)
    result = call.output(axis, call.read(call.inputs[0], axis))
    window = math.prod(call.operation.pool_size)
    return Flow([result], flops=call.each(window, channels=result))


@register_rule(*_GLOBAL_POOLING)
def global_pooling(call):
    layer = call.operation
    tensor = call.inputs[0]
    axis = channel_axis(layer)
    result = call.output(
        axis if layer.keepdims else -1, call.read(tensor, axis)
    )
    window = positions(tensor.shape) / len(result.ids)
    return Flow([result], flops=[(window, result.ids)])


@register_rule(
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.UpSampling2D,
    layers.UpSampling3D,
    layers.Resizing,
)
def in_space(call):
    axis = channel_axis(call.operation)
    return Flow([call.output(axis, call.read(call.inputs[0], axis))])


@register_rule(layers.ZeroPadding1D, layers.Cropping1D, layers.UpSampling1D)
def in_time(call):
    return Flow([call.output(-1, call.read(call.inputs[0], -1))])

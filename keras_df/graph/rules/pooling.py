"""Rules for pooling, padding, cropping and resizing in space."""

import math

from keras import layers

from keras_df.graph.call import positions
from keras_df.graph.registry import Flow
from keras_df.graph.registry import register_rule
from keras_df.graph.rules.convolution import channel_axis


@register_rule(
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    "MaxPool",
    "AveragePool",
)
def pooling(call):
    axis = channel_axis(call.operation)
    result = call.output(axis, call.read(call.inputs[0], axis))
    size = call.operation.pool_size
    if isinstance(size, int):
        size = (size,) * (len(result.shape) - 2)
    return Flow([result], flops=call.each(math.prod(size), channels=result))


@register_rule(
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
)
def global_pooling(call):
    layer = call.operation
    axis = channel_axis(layer)
    ids = call.read(call.inputs[0], axis)
    return _pooled(call, call.output(axis if layer.keepdims else -1, ids))


@register_rule(
    # By name: not every version of Keras has these layers.
    "AdaptiveAveragePooling1D",
    "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D",
    "AdaptiveAveragePool",
    "AdaptiveMaxPool",
)
def adaptive_pooling(call):
    axis = channel_axis(call.operation)
    return _pooled(call, call.output(axis, call.read(call.inputs[0], axis)))


def _pooled(call, result):
    """Every element of the input is read once."""
    window = positions(call.inputs[0].shape) / len(result.ids)
    return Flow([result], flops=[(window, result.ids)])


@register_rule(
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.UpSampling1D,
    layers.UpSampling2D,
    layers.UpSampling3D,
    layers.Resizing,
    layers.CenterCrop,
    layers.RandomCrop,
    layers.RandomFlip,
    layers.RandomRotation,
    layers.RandomTranslation,
    layers.RandomZoom,
    "Resize",
)
def in_space(call):
    axis = channel_axis(call.operation)
    return Flow([call.output(axis, call.read(call.inputs[0], axis))])

"""Networks that several benchmarks measure, without weights."""

import keras
from keras import layers
from keras import ops


def residual_network(depth, widths=(16, 32, 64)):
    """The ResNet for CIFAR-10 of He et al. (2016), Section 4.2."""
    x = inputs = keras.Input((32, 32, 3))
    x = _conv_norm(x, widths[0], 1, "relu")
    for stage, width in enumerate(widths):
        for block in range((depth - 2) // 6):
            strides = 2 if stage and not block else 1
            shortcut = x if strides == 1 else _option_a(x, width)
            x = _conv_norm(x, width, strides, "relu")
            x = layers.add([_conv_norm(x, width, 1, None), shortcut])
            x = layers.Activation("relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def _conv_norm(x, width, strides, activation):
    x = layers.Conv2D(width, 3, strides, "same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    return layers.Activation(activation)(x) if activation else x


def _option_a(x, width):
    missing = (width - x.shape[-1]) // 2
    return ops.pad(x[:, ::2, ::2], [[0, 0]] * 3 + [[missing, missing]])

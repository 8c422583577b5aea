"""A Keras image classifier as a PyTorch module, channels first."""

import functools

import keras
import numpy as np
import torch
from torch import nn

from keras_df.graph.walk import walk


class TorchTwin(nn.Module):
    """The same weights and the same graph in PyTorch, for inference.

    Args:
        model: A built Functional model without nested models, of the layers
            that `_module` knows.
    """

    def __init__(self, model):
        super().__init__()
        self.graph = model
        self.layers = nn.ModuleDict(
            {
                layer.name: _module(layer)
                for layer in model.layers
                if not isinstance(layer, keras.layers.InputLayer)
            }
        )
        self.eval()

    def forward(self, image):
        return walk(self.graph, [image], self._call)

    def _call(self, path, layer, *args, mask=None):
        return self.layers[layer.name](*args)


class _Function(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


@functools.singledispatch
def _module(layer):
    raise TypeError(
        f"Layer '{layer.name}' of type {type(layer)} has no counterpart in "
        "`torch_twin.py`. Register one there."
    )


@_module.register
def _(layer: keras.layers.Conv2D):
    same = layer.padding == "same"
    if layer.groups > 1 or layer.data_format != "channels_last":
        raise ValueError(
            f"Layer '{layer.name}' must be an ordinary convolution with its "
            f"channels last. Received: groups={layer.groups}, "
            f"data_format='{layer.data_format}'"
        )
    if same and set(layer.strides) != {1}:
        raise ValueError(
            f"Layer '{layer.name}' pads as PyTorch does not: "
            f"padding='same', strides={layer.strides}"
        )
    height, width, inputs, outputs = layer.kernel.shape
    module = nn.Conv2d(
        inputs,
        outputs,
        (height, width),
        stride=layer.strides,
        padding="same" if same else 0,
        dilation=layer.dilation_rate,
        bias=layer.use_bias,
    )
    _set(module.weight, keras.ops.transpose(layer.kernel, (3, 2, 0, 1)))
    if layer.use_bias:
        _set(module.bias, layer.bias)
    return _activated(layer, module)


@_module.register
def _(layer: keras.layers.Dense):
    inputs, outputs = layer.kernel.shape
    module = nn.Linear(inputs, outputs, bias=layer.use_bias)
    _set(module.weight, keras.ops.transpose(layer.kernel))
    if layer.use_bias:
        _set(module.bias, layer.bias)
    return _activated(layer, module)


@_module.register
def _(layer: keras.layers.BatchNormalization):
    module = nn.BatchNorm2d(layer.moving_mean.shape[0], layer.epsilon)
    _set(module.running_mean, layer.moving_mean)
    _set(module.running_var, layer.moving_variance)
    if layer.scale:
        _set(module.weight, layer.gamma)
    if layer.center:
        _set(module.bias, layer.beta)
    return module


@_module.register
def _(layer: keras.layers.ReLU):
    if layer.max_value is not None or layer.negative_slope or layer.threshold:
        raise ValueError(f"Layer '{layer.name}' is not a plain ReLU.")
    return nn.ReLU()


@_module.register
def _(layer: keras.layers.Activation):
    return _activated(layer, nn.Identity())


@_module.register
def _(layer: keras.layers.ZeroPadding2D):
    (top, bottom), (left, right) = layer.padding
    return nn.ZeroPad2d((left, right, top, bottom))


@_module.register
def _(layer: keras.layers.GlobalAveragePooling2D):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


@_module.register
def _(layer: keras.layers.Add):
    return _Function(sum)


@_module.register
def _(layer: keras.layers.Rescaling):
    return _Function(lambda x: x * layer.scale + layer.offset)


@_module.register
def _(layer: keras.layers.Normalization):
    mean, variance = (
        torch.tensor(np.reshape(x, (-1, 1, 1)), dtype=torch.float32)
        for x in (layer.mean, layer.variance)
    )
    return _Function(lambda x: (x - mean) / variance.sqrt())


def _activated(layer, module):
    name = keras.activations.serialize(layer.activation)
    if name == "linear":
        return module
    if name == "relu":
        return nn.Sequential(module, nn.ReLU())
    raise ValueError(
        f"Layer '{layer.name}' has an activation that `torch_twin.py` does "
        f"not know: {name}"
    )


def _set(parameter, value):
    with torch.no_grad():
        parameter.copy_(torch.tensor(keras.ops.convert_to_numpy(value)))

"""A Keras 3 layer -> a `tf_keras` layer."""

import inspect

import keras
import numpy as np
from keras import layers

from keras_df.graph.twin import config_of
from keras_df.interop.operations import ACTIVATIONS

# Layers that compute the same under the same name.
_SAME = (
    *("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax"),
    *("Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D"),
    *("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
    *("SeparableConv1D", "SeparableConv2D", "Dense", "Embedding"),
    *("BatchNormalization", "LayerNormalization", "GroupNormalization"),
    *("AveragePooling1D", "AveragePooling2D", "AveragePooling3D"),
    *("MaxPooling1D", "MaxPooling2D", "MaxPooling3D"),
    *("GlobalAveragePooling1D", "GlobalAveragePooling2D"),
    *("GlobalMaxPooling1D", "GlobalMaxPooling2D"),
    *("GlobalAveragePooling3D", "GlobalMaxPooling3D"),
    *("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"),
    *("Cropping1D", "Cropping2D", "Cropping3D"),
    *("UpSampling1D", "UpSampling2D", "UpSampling3D"),
    *("Flatten", "Reshape", "Permute", "RepeatVector"),
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
    *("GaussianNoise", "GaussianDropout", "ActivityRegularization"),
    *("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"),
    *("Concatenate", "Dot", "Rescaling", "Normalization"),
)
_TYPES = {getattr(layers, name): name for name in _SAME}
_SAME_ACTIVATIONS = {"silu": "swish"} | {
    name: name
    for name in (
        *("linear", "relu", "softmax", "elu", "selu", "softplus"),
        *("softsign", "gelu", "tanh", "sigmoid", "exponential", "mish"),
    )
}
_RENAMED = {(layers.LeakyReLU, "negative_slope"): "alpha"}
_RENAMED_WEIGHTS = {
    (kind, "kernel"): "depthwise_kernel"
    for kind in (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
}
# Said in a config, and nothing that the new layer needs to know: weights are
# copied, and random numbers differ between the two packages anyway.
_IRRELEVANT = ("_initializer", "seed")


def translate_layer(layer, name):
    """Makes the `tf_keras` layer of a Keras 3 layer, without its weights.

    Args:
        layer: `keras.Layer`.
        name: Name of the new layer.

    Returns:
        Tuple `(new, call)`: the layer, None if it needs none, and what to
        call on tensors. That is the layer itself, or a function where
        `tf_keras` lacks its activation.

    Raises:
        ValueError: If it cannot be translated.
    """
    import tf_keras

    if type(layer) not in _TYPES:
        raise ValueError(
            "there is no layer in tf_keras that is known to compute the same. "
            "Replace it by stock layers, or convert the parts of the model "
            "before and after it."
        )
    config = config_of(layer)
    if getattr(layer, "quantization_mode", None):
        raise ValueError("it is quantized. Convert the model in float32.")
    arguments = _arguments(type(layer), config)
    after = None
    if "activation" in arguments:
        arguments["activation"], after = _activation(layer.activation, name)
    if type(layer) is layers.Activation and after is not None:
        return None, after
    if type(layer) is layers.Normalization:
        arguments |= _statistics(layer)
    kind = getattr(tf_keras.layers, _TYPES[type(layer)])
    new = kind(
        **arguments, name=name, trainable=layer.trainable, dtype="float32"
    )
    if after is None:
        return new, new
    return new, lambda *args, **kwargs: after(new(*args, **kwargs))


def _arguments(kind, config):
    """Arguments of the `tf_keras` layer, from the config of Keras."""
    import tf_keras

    defaults = inspect.signature(kind.__init__).parameters
    target = getattr(tf_keras.layers, _TYPES[kind])
    known = inspect.signature(target.__init__).parameters
    arguments = {}
    for key, value in config.items():
        if key in ("name", "trainable", "dtype") or key.endswith(_IRRELEVANT):
            continue
        new = _RENAMED.get((kind, key), key)
        if new in known:
            arguments[new] = _value(key, value)
        elif value and not (key in defaults and value == defaults[key].default):
            raise ValueError(f"tf_keras does not know `{key}={value!r}`.")
    return arguments


def _value(key, value):
    import tf_keras

    for ending in ("regularizer", "constraint"):
        if key.endswith(ending) and value is not None:
            known = getattr(tf_keras, f"{ending}s")
            if not isinstance(value, dict):
                raise ValueError(f"its `{key}` is Python code.")
            # Without the module, for that names the one of Keras 3.
            return known.get({k: value[k] for k in ("class_name", "config")})
    return value


def _activation(activation, layer):
    """An activation for a layer's config, and what to call after the layer."""
    if isinstance(activation, keras.Layer):
        if isinstance(activation, layers.PReLU):
            raise ValueError("its activation has weights of its own.")
        return None, translate_layer(activation, f"{layer}__activation")[1]
    name = getattr(activation, "__name__", "")
    if getattr(keras.activations, name, None) is not activation:
        raise ValueError(f"its activation {activation!r} is not of Keras.")
    if name in ACTIVATIONS:
        return None, ACTIVATIONS[name](f"{layer}__{name}")
    if name not in _SAME_ACTIVATIONS:
        raise ValueError(f"tf_keras has no activation '{name}'.")
    return _SAME_ACTIVATIONS[name], None


def _statistics(layer):
    """Mean and variance of a Normalization, given or adapted."""
    if layer.input_mean is not None:
        found = layer.input_mean, layer.input_variance
    else:
        found = layer.adapt_mean, layer.adapt_variance
    mean, variance = (np.asarray(x, "float32").tolist() for x in found)
    return {"mean": mean, "variance": variance}


def copy_weights(path, old, new):
    """Copies the weights of a layer to its translation.

    Args:
        path: Path of the layer, for the message.
        old: `keras.Layer`.
        new: Built `tf_keras` layer.

    Raises:
        ValueError: If their weights do not correspond.
    """
    values = {
        _RENAMED_WEIGHTS.get((type(old), x.name), x.name): np.asarray(x)
        for x in old.weights
    }
    targets = {x.name.split(":")[0].split("/")[-1]: x for x in new.weights}
    if isinstance(old, layers.Normalization):
        values = {}  # They are in the new layer's config.
    shapes, wanted = (
        {k: tuple(x.shape) for k, x in found.items()}
        for found in (values, targets)
    )
    if shapes != wanted:
        raise ValueError(
            f"The weights of '{path}' (of type {type(old).__name__}) do not "
            f"correspond: {shapes} in Keras, {wanted} in tf_keras."
        )
    for name, target in targets.items():
        target.assign(values[name])

"""Twins of a model in a form that other runtimes take."""

import inspect

import keras
import numpy as np
from keras import layers

from keras_df.graph.twin import copy_weights
from keras_df.graph.twin import twin
from keras_df.graph.walk import graph_of
from keras_df.graph.walk import rebuild

_REDUCED = ("float16", "bfloat16")


def is_reduced(model):
    """Whether a layer of a model computes in 16 bits."""
    return any(x.compute_dtype in _REDUCED for x in model._flatten_layers())


def in_float32(model):
    """A model that computes in float32, with the weights of one that may not.

    LiteRT and ONNX have no operators for the graph of a model in mixed
    precision.

    Args:
        model: A built Functional or Sequential model. It is not modified.

    Returns:
        The model itself if no layer computes in 16 bits.
    """
    if not is_reduced(model):
        return model

    def make(layer):
        return twin(layer, {"dtype": "float32"})

    return _rebuilt(model, make)


def without_constants(model):
    """A model in which Normalization is Rescaling, which computes the same.

    The statistics of a Normalization are tensors, neither weights nor part of
    the graph: Keras exports them to ONNX as inputs.

    Args:
        model: A built Functional or Sequential model. It is not modified.

    Returns:
        The model itself if it has no such layer.
    """
    kinds = [type(layer) for layer in model._flatten_layers()]
    if layers.Normalization not in kinds:
        return model

    def make(layer):
        if type(layer) is not layers.Normalization:
            return twin(layer)
        return layers.Rescaling(*_scale_and_offset(layer), name=layer.name)

    return _rebuilt(model, make)


def at_inference(model):
    """A model that infers when it is not told whether it trains.

    Layers that augment images train by default, and Keras exports a model
    without telling it.

    Args:
        model: A built Functional or Sequential model. It is not modified.

    Returns:
        The model itself if it has no such layer.
    """
    if not any(map(_trains_by_default, model._flatten_layers())):
        return model
    copy = _rebuilt(model, twin)
    inputs = graph_of(copy).input
    return keras.Model(inputs, copy(inputs, training=False), name=model.name)


def _trains_by_default(layer):
    training = inspect.signature(layer.call).parameters.get("training")
    return training is not None and training.default is True


def _scale_and_offset(layer):
    mean = np.asarray(layer.mean)
    deviation = np.maximum(np.sqrt(layer.variance), keras.config.epsilon())
    if layer.invert:
        return deviation, mean
    return 1 / deviation, -mean / deviation


def _rebuilt(model, make):
    pending = []

    def replace(path, operation):
        if not isinstance(operation, keras.Layer):
            return twin(operation)
        new = make(operation)
        if type(new) is type(operation):
            pending.append((operation, new))
        return new

    rebuilt = rebuild(model, replace)
    for old, new in pending:
        copy_weights(old, new)
    return rebuilt

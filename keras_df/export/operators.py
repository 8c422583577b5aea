"""The operators of a network, each as a `.tflite` file of its own."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from keras_df.budgets.cost import node_cost
from keras_df.graph.twin import twin
from keras_df.surgery.pairs import make_pair

# What a layer's config says beside the shape of its computation.
_IMMATERIAL = ("activation", "dtype", "filters", "name", "trainable", "units")
_IMMATERIAL_ENDINGS = ("_initializer", "_regularizer", "_constraint", "bias")


@dataclass(frozen=True)
class Operator:
    """A layer on inputs of one size, for any number of channels.

    Attributes:
        key: String; operators with the same key compute the same.
        make: Function `(inputs, outputs)`, numbers of channels, that returns
            a layer that is not built.
        sizes: Shape of an input without batch and channels.
        inputs: Number of input channels in the original model.
        outputs: Number of output channels likewise.
    """

    key: str
    make: Callable
    sizes: tuple
    inputs: int
    outputs: int


def kernel_operators(node):
    """The operators that a layer with a kernel is, or may become.

    Args:
        node: `Node` whose kernel can be decomposed.

    Returns:
        Dict with lists of `Operator`, one per call of the layer: under
        `("dense", 0)` the layer, under `(scheme, 0)` and `(scheme, 1)`, with
        a scheme's number as a string, the two layers of a pair.
    """
    found = {}
    for tensors in node.inputs:
        for role, operator in _operators_of_call(node, tensors[0].shape):
            found.setdefault(role, []).append(operator)
    return found


def _operators_of_call(node, shape):
    layer, kernel = node.operation, node.kernel
    inputs, outputs = len(kernel.inputs[1]), len(kernel.outputs[1])
    sizes = tuple(shape[1:-1])

    def dense(inputs, outputs):
        sizes = _Sizes(kernel.outputs[1], outputs)
        changes = {key: f(sizes) for key, f in node.flow.config.items()}
        return twin(layer, changes)

    yield ("dense", 0), _operator(dense, sizes, inputs, outputs)
    for scheme, rank in node_cost(node).limit.items():

        def first(inputs, rank, scheme=scheme):
            return make_pair(layer, kernel, rank, scheme, 1)[0]

        def second(rank, outputs, scheme=scheme):
            return make_pair(layer, kernel, rank, scheme, outputs)[1]

        yield (str(scheme), 0), _operator(first, sizes, inputs, rank)
        between = first(inputs, 1).compute_output_shape(shape)[1:-1]
        yield (str(scheme), 1), _operator(second, between, rank, outputs)


def whole_operator(node):
    """The operator of a layer that is measured as it is, None if it can't be.

    Args:
        node: `Node` with one input tensor.
    """
    if not isinstance(node.operation, keras.Layer) or len(node.inputs[0]) != 1:
        return None
    shape = node.inputs[0][0].shape

    def make(inputs, outputs):
        return twin(node.operation)

    # It is timed at its own width only: one of another width is another.
    config = node.operation.get_config()
    widths = shape[-1], config.get("filters"), config.get("units")
    return _operator(make, tuple(shape[1:-1]), shape[-1], 0, widths)


def _operator(make, sizes, inputs, outputs, widths=()):
    example = make(inputs, outputs)
    config = {
        key: value
        for key, value in example.get_config().items()
        if key not in _IMMATERIAL and not key.endswith(_IMMATERIAL_ENDINGS)
    }
    kind = type(example).__name__
    key = json.dumps([kind, config, sizes, widths], sort_keys=True, default=str)
    return Operator(key, make, tuple(sizes), inputs, outputs)


class _Sizes:
    """Stands in for a `Keep`: a layer may get wider than it was, too."""

    def __init__(self, outputs, count):
        self._outputs = outputs
        self._count = count

    def count(self, ids):
        same = np.array_equal(ids, self._outputs)
        return self._count if same else len(ids)


def operator_file(operator, inputs, outputs):
    """Returns the bytes of a `.tflite` file with one operator.

    Args:
        operator: `Operator`.
        inputs: Number of input channels.
        outputs: Number of output channels.
    """
    import tensorflow as tf

    layer = operator.make(inputs, outputs)
    if outputs and hasattr(layer, "activation"):
        # It is counted with what is beside the operators.
        layer.activation = keras.activations.linear
    shape = (*operator.sizes, inputs)
    layer.build((1, *shape))
    weights = [
        [tf.constant(variable.numpy()) for variable in variables]
        for variables in (
            layer.trainable_variables,
            layer.non_trainable_variables,
        )
    ]

    @tf.function(input_signature=[tf.TensorSpec((1, *shape), tf.float32)])
    def function(x):
        # Weights that are constants, or the file reads them at every call.
        return layer.stateless_call(*weights, x)[0]

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], layer
    )
    return converter.convert()

"""What the outputs of a model are made by."""

import keras

from keras_df.graph.walk import graph_of
from keras_df.graph.walk import is_graph

PROBABILITIES = ("softmax", "sigmoid")
"""Activations that make probabilities of logits."""

# What these layers return is as linear, or as probable, as what they take;
# an `Activation` is one of them if it is linear.
_PASSIVE = (
    keras.layers.Activation,
    keras.layers.Flatten,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.Identity,
    keras.layers.Reshape,
)


def made_by(output):
    """The layer or operation that makes an output, also in a nested model.

    Args:
        output: One of the symbolic outputs of a Functional model.

    Returns:
        A `keras.Operation`.
    """
    return _inner(output)._keras_history.operation


def activation_of(output):
    """Name of the function that makes an output, `"linear"` for none.

    Probabilities stay probabilities where a layer only reshapes, averages or
    casts them.

    Args:
        output: One of the symbolic outputs of a Functional model.

    Returns:
        A string, such as `"softmax"`.
    """
    history = _inner(output)._keras_history
    operation = history.operation
    name = _activation_of_operation(operation)
    if name != "linear" or not isinstance(operation, _PASSIVE):
        return name
    node = operation._inbound_nodes[history.node_index]
    before = activation_of(node.input_tensors[0])
    return before if before in PROBABILITIES else "linear"


def _inner(output):
    """The same output inside the innermost model that makes it."""
    history = output._keras_history
    if is_graph(history.operation):
        inner = graph_of(history.operation).outputs
        return _inner(inner[history.tensor_index])
    return output


def _activation_of_operation(operation):
    if hasattr(operation, "activation"):
        found = operation.activation
        return getattr(found, "__name__", str(found))
    if isinstance(operation, _PASSIVE):
        return "linear"
    return type(operation).__name__.lower()

"""What the outputs of a model are made by."""

import keras

from keras_df.graph.walk import graph_of
from keras_df.graph.walk import is_graph

# What these layers return is as linear as what they take.
_PASSIVE = (
    keras.layers.Flatten,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.Reshape,
)


def made_by(output):
    """The layer or operation that makes an output, also in a nested model.

    Args:
        output: One of the symbolic outputs of a Functional model.

    Returns:
        A `keras.Operation`.
    """
    history = output._keras_history
    if is_graph(history.operation):
        inner = graph_of(history.operation).outputs
        return made_by(inner[history.tensor_index])
    return history.operation


def activation_of(operation):
    """Name of the function that makes the output of a layer or operation."""
    if hasattr(operation, "activation"):
        found = operation.activation
        return getattr(found, "__name__", str(found))
    if isinstance(operation, _PASSIVE):
        return "linear"
    return type(operation).__name__.lower()

"""A check that every weight of a model is a number."""

import keras
from keras import ops


def check_weights(graph):
    """Raises ValueError if a layer has a weight that is NaN or infinite.

    Args:
        graph: `ChannelGraph` of the model.
    """
    for path, node in graph.nodes.items():
        if not isinstance(node.operation, keras.Layer):
            continue
        for weight in node.operation.weights:
            if "float" not in weight.dtype or ops.all(ops.isfinite(weight)):
                continue
            raise ValueError(
                f"Layer '{path}' has NaN or infinite values in its weight "
                f"'{weight.name}', so nothing can be measured on the model. "
                "Load or train it anew."
            )

"""zeroed_consumers: what a compressed model has to compute, made plainly."""

import keras
import numpy as np

from keras_df.graph import analyze
from keras_df.graph.twin import copy_weights
from keras_df.graph.twin import twin
from keras_df.graph.walk import graph_of
from keras_df.graph.walk import is_graph
from keras_df.plan import CompressionPlan


def zeroed_consumers(model: keras.Model, plan: CompressionPlan) -> keras.Model:
    """Makes the full-size model that a compressed one must equal.

    Every kernel is replaced by itself with its removed input channels set to
    zero, or by the truncated singular value decomposition of it where the
    plan gives it a rank. All else stays, shapes included. In inference mode
    it computes the function of `keras_df.compress(model, plan)`: a channel
    that is removed may carry any value once nothing reads it.

    It shares no code with the surgeon beyond the channel analysis, so the
    two check each other.

    Args:
        model: A built Functional or Sequential model. It is not modified.
        plan: `CompressionPlan` made for this model.

    Returns:
        A `keras.Model` of the architecture of `model`.

    Raises:
        ValueError: If the plan does not fit the model.

    Example:

    ```python
    small = keras_df.compress(model, plan)
    reference = keras_df.surgery.zeroed_consumers(model, plan)
    np.abs(small.predict(x) - reference.predict(x)).max()
    ```
    """
    graph = analyze(model)
    selection = plan.selection(graph)
    clones = {}

    def clone(operation):
        if id(operation) not in clones:
            make = clone_model if is_graph(operation) else twin
            clones[id(operation)] = make(operation)
        return clones[id(operation)]

    def clone_model(model):
        graph = graph_of(model)
        uncompiled = keras.Model(graph.input, graph.output, name=model.name)
        return keras.models.clone_model(uncompiled, clone_function=clone)

    reference = clone_model(model)
    for node in graph.nodes.values():
        if isinstance(node.operation, keras.Layer):
            copy_weights(node.operation, clones[id(node.operation)])
    for path, node in graph.kernels().items():
        weight = getattr(clones[id(node.operation)], node.kernel.attribute)
        kernel = np.asarray(weight).astype(float)
        stays = selection.kept[graph.units]
        if node.kernel.inputs is not None:
            _zero(kernel, *node.kernel.inputs, stays)
        if path in selection.ranks:
            _zero(kernel, *node.kernel.outputs, stays)
            axes = node.kernel.schemes[selection.schemes[path]]
            kernel = _truncated(kernel, axes, selection.ranks[path])
        weight.assign(kernel)
    return reference


def _zero(kernel, axis, ids, stays):
    """Sets the channels that a plan removes to zero, in place."""
    np.moveaxis(kernel, axis, 0)[~stays[ids]] = 0.0


def _truncated(kernel, axes, rank):
    """The best approximation of a given rank of a kernel as a matrix."""
    rows, columns = axes
    order = (*rows, *columns)
    tensor = kernel.transpose(order)
    height = int(np.prod([kernel.shape[axis] for axis in rows]))
    left, sigma, right = np.linalg.svd(
        tensor.reshape(height, -1), full_matrices=False
    )
    matrix = (left[:, :rank] * sigma[:rank]) @ right[:rank]
    return matrix.reshape(tensor.shape).transpose(np.argsort(order))

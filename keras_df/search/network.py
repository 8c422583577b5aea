"""The network that a search trains on: frozen layers, wrapped."""

import contextlib

import keras
import numpy as np
from keras import ops

from keras_df.calibration import moment_size
from keras_df.graph.scales import output_scales
from keras_df.graph.twin import copy_weights
from keras_df.graph.twin import twin
from keras_df.graph.walk import rebuild
from keras_df.search.view import KernelView
from keras_df.search.wrapper import CompressibleLayer


def build_network(model, graph, allocator, config):
    """Copies a model, freezes the copy and wraps its kernels.

    Args:
        model: The user's model. It is not modified.
        graph: `ChannelGraph` of the model.
        allocator: `Allocator` of the search, whose order of layers is used.
        config: `SearchConfig`.

    Returns:
        Tuple of the network, a dict from the path of each layer with a
        kernel to its `CompressibleLayer`, and a list of the variables that
        the network shares with the model, in layers that cannot be copied.
    """
    builder = _Builder(graph, allocator, config)
    network = rebuild(model, builder.replace)
    for source, copy in builder.copies:
        copy_weights(source, copy)
    _freeze(builder.copies, config)
    paths = allocator.cost.paths
    wrappers = {path: builder.wrappers[path] for path in paths}
    shared = [
        variable
        for source, copy in builder.copies
        if source is copy
        for variable in source.variables
    ]
    return network, wrappers, shared


@contextlib.contextmanager
def unchanged(variables):
    """Gives variables back the values that they have now.

    Args:
        variables: List of variables.
    """
    values = [np.array(ops.convert_to_numpy(x)) for x in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, values):
            variable.assign(value)


class _Builder:
    def __init__(self, graph, allocator, config):
        self._graph = graph
        self._allocator = allocator
        self._config = config
        self._scales = output_scales(graph)
        self.copies = []
        self.wrappers = {}

    def replace(self, path, operation):
        node = self._graph.nodes["/".join(path)]
        copy = twin(operation)
        if isinstance(operation, keras.Layer):
            self.copies.append((operation, copy))
        if node.kernel is None:
            return copy
        wrapper = CompressibleLayer(copy, self._view(node))
        self.wrappers[node.path] = wrapper
        return wrapper

    def _view(self, node):
        free, schemes = self._allocator.free, self._allocator.cost.schemes
        scheme = schemes.get(node.path)
        size = scale = None
        if self._config.metric == "activations":
            size = moment_size(node.operation, scheme)
            scale = self._scales.get(node.path)
        return KernelView(node, self._graph, free, scheme, scale, size)


def _freeze(copies, config):
    """Freezes every weight of the copies.

    BatchNormalization layers stay trainable, their variables do not: that is
    how Keras lets them use the statistics of each batch.
    """
    for source, copy in copies:
        if source is copy:  # It could not be copied, and is the user's.
            continue
        for layer in copy._flatten_layers():
            is_norm = isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = not is_norm or config.normalization == "batch"
        for variable in copy.variables:
            variable.trainable = False

"""Surgeon: carries out a selection on a model, layer by layer."""

import functools
import itertools

import keras
import numpy as np

from keras_df.graph.scales import column_scales
from keras_df.graph.twin import copy_weights
from keras_df.graph.twin import layers_within
from keras_df.graph.twin import scope_of
from keras_df.graph.twin import twin
from keras_df.graph.walk import graph_of
from keras_df.graph.walk import rebuild
from keras_df.ops.matricization import dematricize
from keras_df.ops.matricization import matricize
from keras_df.surgery.factors import low_rank_factors
from keras_df.surgery.factors import separable_factors
from keras_df.surgery.pairs import fill_in_pair
from keras_df.surgery.pairs import make_pair
from keras_df.surgery.pairs import pair_kernels


class Surgeon:
    """Rebuilds a model with what a selection leaves of it.

    Args:
        graph: `ChannelGraph` of the model.
        selection: `Selection`, what stays.

    Attributes:
        keep: `Keep`, which channels stay.
        layers: Dict from the path of each layer to the layer that takes its
            place, or to the two layers of a pair.
        calls: Dict from the path of each layer or operation to what is
            called in its place.
    """

    def __init__(self, graph, selection):
        self.keep = graph.keep(selection.kept)
        self.selection = selection
        self.layers = {}
        self.calls = {}
        self._last = set()
        self._graph = graph
        self._names = {x.operation.name for x in graph.nodes.values()}

    def rebuild(self, model):
        """Returns the compressed model, its kernels not yet decomposed."""
        self._last = {
            id(x._keras_history.operation) for x in graph_of(model).outputs
        }
        small = rebuild(model, self._replace)
        for path, target in self.layers.items():
            if not isinstance(target, tuple):
                self._fill_in_layer(self._graph.nodes[path], target)
        return small

    def _replace(self, path, operation):
        node = self._graph.nodes["/".join(path)]
        self.calls[node.path] = self._replacement(node)
        return self.calls[node.path]

    def _replacement(self, node):
        if node.path in self.selection.ranks:
            return self._pair(node)
        changes = self._changed_config(node)
        new = twin(node.operation, changes, is_resized=bool(node.flow.weights))
        if isinstance(node.operation, keras.Layer):
            self.layers[node.path] = new
        if node.flow.call is not None:
            return functools.partial(node.flow.call, self.keep, new)
        return new

    def _changed_config(self, node):
        changes = node.flow.config.items()
        return {key: change(self.keep) for key, change in changes}

    def _pair(self, node):
        with scope_of(node.operation):
            first, second = make_pair(
                node.operation,
                node.kernel,
                self.selection.ranks[node.path],
                self.selection.schemes[node.path],
                self.keep.count(node.kernel.outputs[1]),
            )
        if first.name in self._names:  # Of a model compressed before.
            first = twin(first, {"name": self._unused(first.name)})
        if id(node.operation) in self._last:
            # Losses and metrics name outputs by the layers that make them.
            second = twin(second, {"name": node.operation.name})
        self.layers[node.path] = (first, second)

        def pair(inputs, **kwargs):
            return second(first(inputs, **kwargs), **kwargs)

        return pair

    def _unused(self, name):
        numbered = (f"{name}_{number}" for number in itertools.count(1))
        return next(x for x in numbered if x not in self._names)

    def _fill_in_layer(self, node, layer):
        old = node.operation
        weights = self._sliced_weights(node)
        if all(
            np.shape(getattr(old, k)) == v.shape for k, v in weights.items()
        ):
            copy_weights(old, layer)
            return
        changed = {id(getattr(old, key)): weights[key] for key in weights}
        list(layers_within(old, layer))
        for source, target in zip(old.weights, layer.weights, strict=True):
            # As an array: JAX would let both variables share one buffer.
            target.assign(changed.get(id(source), np.asarray(source)))

    def matrix(self, node):
        """Returns what stays of a kernel, by Scheme 1, as an array."""
        kernel = self._sliced_weights(node)[node.kernel.attribute]
        return np.asarray(matricize(kernel, *node.kernel.schemes[1]))

    def set_matrix(self, node, matrix, moment=None, scale=None):
        """Sets the kernel, or the kernels of the pair, of a layer.

        Args:
            node: `Node` of the original layer.
            matrix: Array, what its kernel shall be, as `matrix` returns it.
            moment: As for `low_rank_factors`.
            scale: Array of shape `(outputs,)`, how much each output counts.
                None for equal weights.

        Returns:
            Array, the matrix that the layer has now, as `matrix` returns it:
            of a pair, the product.
        """
        target = self.layers[node.path]
        weights = self._sliced_weights(node)
        kernel = weights.pop(node.kernel.attribute)
        if not isinstance(target, tuple):
            kernel = dematricize(matrix, kernel.shape, *node.kernel.schemes[1])
            getattr(target, node.kernel.attribute).assign(kernel)
            return matrix
        scheme = self.selection.schemes[node.path]
        rank = self.selection.ranks[node.path]
        if scheme == 1:
            scale = column_scales(node, 1, scale)
            factors = low_rank_factors(matrix, rank, moment, scale)
        else:
            window = kernel.shape[:2]
            factors = separable_factors(matrix, window, rank, moment, scale)
        kernels = pair_kernels(
            type(node.operation), scheme, *factors, kernel.shape
        )
        fill_in_pair(target, node.kernel.attribute, kernels, weights)
        product = np.matmul(*factors)
        if scheme == 1:
            return product
        kernel = dematricize(product, kernel.shape, *node.kernel.schemes[2])
        return np.asarray(matricize(kernel, *node.kernel.schemes[1]))

    def kept_moment(self, node, moment):
        """What stays of a second moment of a layer's inputs."""
        if moment is None:
            return None
        stays = self.keep.positions(node.kernel.inputs[1])
        channels = len(node.kernel.inputs[1])
        taps = np.arange(len(moment) // channels)[:, None] * channels
        index = (taps + stays).ravel()
        return moment[np.ix_(index, index)]

    def kept_scale(self, node, scale):
        """What stays of the scales of a layer's outputs."""
        if scale is None:
            return None
        return scale[self.keep.positions(node.kernel.outputs[1])]

    def _sliced_weights(self, node):
        """Returns a layer's weights after removal, a dict by attribute."""
        return {
            attribute: _sliced(
                getattr(node.operation, attribute), axes, self.keep
            )
            for attribute, axes in node.flow.weights.items()
        }


def _sliced(value, axes, keep):
    value = np.asarray(value)
    for axis, ids in axes.items():
        value = np.take(value, keep.positions(ids), axis=axis)
    return value

"""compress: a model and a plan -> an ordinary, smaller Keras model."""

import functools

import keras
import numpy as np

from keras_df.calibration import second_moments
from keras_df.calibration import take_batches
from keras_df.graph import analyze
from keras_df.graph.scales import output_scales
from keras_df.graph.twin import copy_weights
from keras_df.graph.twin import layers_within
from keras_df.graph.twin import scope_of
from keras_df.graph.twin import twin
from keras_df.graph.walk import rebuild
from keras_df.ops.matricization import matricize
from keras_df.plan import CompressionPlan
from keras_df.surgery.factors import low_rank_factors
from keras_df.surgery.pairs import fill_in_pair
from keras_df.surgery.pairs import make_pair
from keras_df.surgery.pairs import pair_kernels


def compress(
    model: keras.Model,
    plan: CompressionPlan,
    calibration=None,
    steps: int = 12,
) -> keras.Model:
    """Carries out a plan on a model.

    Filters that the plan removes are cut out of every layer that writes or
    reads them, and kernels that it decomposes become two layers,
    `<name>_lowrank_in` and `<name>_lowrank_out`.

    Args:
        model: A built Functional or Sequential model. It is not modified.
        plan: `CompressionPlan` made for this model.
        calibration: Optional training data, as `Model.fit` takes it (targets
            are ignored). With it, kernels are decomposed so that the error
            is smallest on these inputs, and after the BatchNormalization that
            follows; without it, so that the kernels' own error is smallest.
        steps: Number of batches of `calibration` to read.

    Returns:
        A `keras.Model` of stock Keras layers with the weights of `model`, not
        compiled. Nested models stay nested.

    Raises:
        TypeError: If `plan` is not a `CompressionPlan`.
        ValueError: If the plan does not fit the model.

    Example:

    ```python
    plan = keras_df.baselines.magnitude(model, keras_df.FLOPs(0.5))
    small = keras_df.compress(model, plan)
    small.save("small.keras")
    ```

    Reference: the last paragraph of Section 5.1.3 of the paper.
    """
    if not isinstance(plan, CompressionPlan):
        raise TypeError(
            "`plan` must be a `keras_df.CompressionPlan`. Received: "
            f"{plan!r} (of type {type(plan)})"
        )
    graph = analyze(model)
    selection = plan.selection(graph)
    moments, scales = {}, {}
    if calibration is not None:
        batches = take_batches(calibration, steps)
        moments = second_moments(model, batches, selection.ranks)
        scales = output_scales(graph)
    surgeon = _Surgeon(graph, selection, moments, scales)
    small = rebuild(model, surgeon.replace)
    surgeon.fill_in_weights()
    return small


class _Surgeon:
    def __init__(self, graph, selection, moments, scales):
        self._graph = graph
        self._keep = graph.keep(selection.kept)
        self._selection = selection
        self._moments = moments
        self._scales = scales
        self._pending = []

    def replace(self, path, operation):
        """Returns what to call in place of an operation."""
        node = self._graph.nodes["/".join(path)]
        if node.path in self._selection.ranks:
            return self._replace_by_pair(node)
        new = twin(operation, self._changed_config(node))
        if isinstance(operation, keras.Layer):
            self._pending.append((self._fill_in_layer, node, new))
        if node.flow.call is not None:
            return functools.partial(node.flow.call, self._keep, new)
        return new

    def _changed_config(self, node):
        changes = node.flow.config.items()
        return {key: change(self._keep) for key, change in changes}

    def _replace_by_pair(self, node):
        with scope_of(node.operation):
            first, second = make_pair(
                node.operation,
                node.kernel,
                self._selection.ranks[node.path],
                self._selection.schemes[node.path],
                self._keep.count(node.kernel.outputs[1]),
            )
        self._pending.append((self._fill_in_pair, node, (first, second)))

        def pair(inputs, **kwargs):
            return second(first(inputs, **kwargs), **kwargs)

        return pair

    def fill_in_weights(self):
        """Sets the weights of every new layer, now that all are built."""
        for fill_in, node, target in self._pending:
            fill_in(node, target)

    def _fill_in_layer(self, node, layer):
        old = node.operation
        weights = sliced_weights(node, self._keep)
        if all(
            np.shape(getattr(old, k)) == v.shape for k, v in weights.items()
        ):
            copy_weights(old, layer)
            return
        changed = {id(getattr(old, key)): weights[key] for key in weights}
        list(layers_within(old, layer))
        for source, target in zip(old.weights, layer.weights, strict=True):
            target.assign(changed.get(id(source), source))

    def _fill_in_pair(self, node, pair):
        weights = sliced_weights(node, self._keep)
        kernel = weights.pop(node.kernel.attribute)
        scheme = self._selection.schemes[node.path]
        matrix = np.asarray(matricize(kernel, *node.kernel.schemes[scheme]))
        factors = low_rank_factors(
            matrix,
            self._selection.ranks[node.path],
            self._kept_moment(node, len(matrix)) if scheme == 1 else None,
            self._kept_scale(node) if scheme == 1 else None,
        )
        kernels = pair_kernels(
            type(node.operation), scheme, *factors, kernel.shape
        )
        fill_in_pair(pair, node.kernel.attribute, kernels, weights)

    def _kept_moment(self, node, rows):
        moment = self._moments.get(node.path)
        if moment is None:
            return None
        stays = self._keep.positions(node.kernel.inputs[1])
        channels = len(node.kernel.inputs[1])
        taps = np.arange(len(moment) // channels)[:, None] * channels
        index = (taps + stays).ravel()
        return moment[np.ix_(index, index)]

    def _kept_scale(self, node):
        scale = self._scales.get(node.path)
        axis, ids = node.kernel.outputs
        if scale is None or node.kernel.schemes[1][1] != (axis,):
            return None
        return scale[self._keep.positions(ids)]


def sliced_weights(node, keep):
    """Returns a layer's weights after removal, a dict by attribute."""
    return {
        attribute: _sliced(getattr(node.operation, attribute), axes, keep)
        for attribute, axes in node.flow.weights.items()
    }


def _sliced(value, axes, keep):
    value = np.asarray(value)
    for axis, ids in axes.items():
        value = np.take(value, keep.positions(ids), axis=axis)
    return value

"""Layer-wise reconstruction: kernels fitted to what the original computes.

What is cut out of one layer reaches the layers behind it. Each kernel is
therefore fitted, in order of execution, so that on what the compressed layers
before it give it writes what the original wrote.
"""

import keras
import numpy as np
from keras import layers
from keras import ops

from keras_df.budgets.schemes import kernel_matrix
from keras_df.calibration import linear_rows
from keras_df.calibration import ridge
from keras_df.graph.lockstep import run_side_by_side
from keras_df.surgery.recalibrate import recalibrate_layer

SAMPLES = 131072
"""Number of output positions that each kernel is fitted on, about."""

RIDGE = 0.01
"""How much the kernel as it is counts, as a share of the mean moment."""

NOISE = 1e-6
"""Variance that rounding may feign, as a share of the squared mean."""


class Fit:
    """A least-squares fit of a kernel's matrix, towards a prior one.

    Args:
        prior: Array of shape `(rows, columns)`, the matrix to stay near to.
        is_centered: Whether the means of inputs and outputs are left out.
    """

    def __init__(self, prior, is_centered):
        self._prior = prior
        self._is_centered = is_centered
        height, width = prior.shape
        self._count = 0
        self._moment = np.zeros((height, height))
        self._cross = np.zeros((height, width))
        self._totals = [np.zeros(height), np.zeros(width)]
        self._origins = None

    def add(self, inputs, targets):
        """Adds samples.

        Args:
            inputs: Tensor of shape `(samples, rows)`.
            targets: Tensor of shape `(samples, columns)`.
        """
        if self._origins is None:
            self._origins = [self._origin(x) for x in (inputs, targets)]
        inputs, targets = inputs - self._origins[0], targets - self._origins[1]
        self._count += inputs.shape[0]
        transposed = ops.transpose(inputs)
        self._moment += ops.convert_to_numpy(ops.matmul(transposed, inputs))
        self._cross += ops.convert_to_numpy(ops.matmul(transposed, targets))
        for total, values in zip(self._totals, (inputs, targets)):
            total += ops.convert_to_numpy(ops.sum(values, axis=0))

    def _origin(self, values):
        """About the mean: small differences of large numbers are noise."""
        if not self._is_centered:
            return np.zeros(values.shape[1], "float32")
        return ops.convert_to_numpy(ops.mean(values, axis=0))

    def solve(self):
        """Returns the matrix, and the moment of the inputs."""
        moment, cross = self._moment / self._count, self._cross / self._count
        of_inputs, of_targets = self._means()
        if self._is_centered:
            moment = moment - np.outer(of_inputs, of_inputs)
            cross = cross - np.outer(of_inputs, of_targets)
        share = ridge(RIDGE, len(moment), self._count)
        # Inputs that do not vary must leave the kernel as it is.
        noise = NOISE * np.mean(np.square(self._origins[0]))
        weight = max(share * np.trace(moment) / len(moment), noise, 1e-12)
        moment[np.diag_indices(len(moment))] += weight
        matrix = np.linalg.solve(moment, cross + weight * self._prior)
        return matrix, moment

    def shift(self, matrix):
        """Returns by how much a matrix misses the targets in the mean."""
        pairs = zip(self._means(), self._origins)
        of_inputs, of_targets = (mean + origin for mean, origin in pairs)
        return of_targets - of_inputs @ matrix

    def _means(self):
        """Means of inputs and of targets, as seen from their origins."""
        return [total / self._count for total in self._totals]


class Reconstruction:
    """Fits the kernels of a compressed model, one after the other.

    Args:
        surgeon: The `Surgeon` that has built the compressed model.
        graph: `ChannelGraph` of the original.
        scales: Dict from `output_scales`.
    """

    def __init__(self, surgeon, graph, scales):
        self._surgeon = surgeon
        self._scales = scales
        # By operation: a shared one is reached by several paths.
        self._nodes = {id(x.operation): x for x in graph.nodes.values()}

    def run(self, model, batches):
        """Fits the kernels.

        Args:
            model: The original model.
            batches: List with, per batch, the list of the model's inputs.
        """
        self._share = SAMPLES // len(batches)
        run_side_by_side(model, batches, self._visit)

    def _visit(self, path, operation, original, changed):
        del path
        node = self._nodes[id(operation)]
        if self._is_own(node):
            if isinstance(operation, layers.BatchNormalization):
                recalibrate_layer(self._surgeon.layers[node.path], changed)
            elif self._is_matrix(node):
                self._fit(node, original, changed)
        call = self._surgeon.calls[node.path]
        return original.run(operation), changed.run(call)

    def _is_own(self, node):
        """Whether a layer was copied, and is called no more than once."""
        new = self._surgeon.layers.get(node.path)
        return new not in (None, node.operation) and len(node.flows) == 1

    def _is_matrix(self, node):
        if node.kernel is None or 1 not in node.kernel.schemes:
            return False
        return node.kernel.schemes[1][1] == (node.kernel.outputs[0],)

    def _fit(self, node, original, changed):
        surgeon, operation = self._surgeon, node.operation
        new = surgeon.layers[node.path]
        first, last = new if isinstance(new, tuple) else (new, new)
        # In Scheme 2, both layers of the pair share the window.
        is_split = surgeon.selection.schemes.get(node.path) == 2
        reader = operation if is_split else first
        stays = surgeon.keep.positions(node.kernel.outputs[1])
        whole = kernel_matrix(node, 1)[:, stays].astype("float32")
        bias = getattr(last, "bias", None)
        # A shift of the mean is made up for by what adds a constant.
        is_centered = bias is not None or self._is_normalized(node)
        fit = Fit(surgeon.matrix(node), is_centered)
        for before, after in zip(original.tensors, changed.tensors):
            rows = linear_rows(operation, before, self._share)
            if rows is None:
                return
            targets = ops.matmul(rows, whole)
            fit.add(linear_rows(reader, after, self._share), targets)
        matrix, moment = fit.solve()
        scale = surgeon.kept_scale(node, self._scales.get(node.path))
        # A pair loses some of the matrix, and with it some of the mean.
        product = surgeon.set_matrix(node, matrix, moment, scale)
        if bias is not None:
            bias.assign(bias + fit.shift(product).astype("float32"))

    def _is_normalized(self, node):
        """Whether BatchNormalization takes up what is added to the outputs."""
        activation = getattr(node.operation, "activation", None)
        is_linear = activation in (None, keras.activations.linear)
        return is_linear and node.path in self._scales

"""CompressibleLayer: a frozen layer seen through masks and a threshold."""

from typing import Any
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_df import ops as df_ops


class Relaxed(NamedTuple):
    """A relaxed kernel.

    Attributes:
        kernel: Tensor of the shape of the layer's kernel.
        sigma: Tensor of shape `(max_rank,)`, ascending singular values of
            the masked kernel, None for a layer that stays dense.
        rank: Scalar tensor, the soft rank (Eq. 13), None likewise.
    """

    kernel: Any
    sigma: Any = None
    rank: Any = None


class CompressibleLayer(keras.layers.Wrapper):
    """Runs a layer with the relaxed kernel of the paper's Eqs. 8 to 11.

    The kernel is masked on its input and output channels, and the singular
    values of the masked kernel are thresholded. The layer's own weights stay
    as they are.

    Args:
        layer: The layer to wrap.
        view: `KernelView`, how the layer's kernel follows the units.
        config: `SearchConfig`.
    """

    def __init__(self, layer, view, config, **kwargs):
        super().__init__(
            layer, name=layer.name, dtype="float32", autocast=False, **kwargs
        )
        self.view = view
        self.config = config
        self._relaxed = None
        self.moment = self.inverse_root = None
        if view.moment_size is not None:
            shape = (view.moment_size, view.moment_size)
            self.moment = self._identity(shape, "moment")
            if view.is_wide:
                self.inverse_root = self._identity(shape, "inverse_root")

    def _identity(self, shape, name):
        return self.add_weight(
            shape=shape,
            initializer="identity",
            trainable=False,
            name=name,
            dtype="float32",
        )

    @property
    def calibrated_layer(self):
        """The layer that calibration runs and measures."""
        return self.layer

    def set_moment(self, moment):
        """Sets the second moment of the layer's inputs.

        Args:
            moment: Array of shape `(moment_size, moment_size)`.
        """
        if not self.view.is_wide:
            self.moment.assign(moment)
            return
        values, vectors = np.linalg.eigh(moment)
        root = np.sqrt(np.maximum(values, 1e-12))
        self.moment.assign((vectors * root) @ vectors.T)
        self.inverse_root.assign((vectors / root) @ vectors.T)

    def relax(self, mask, threshold, steepness):
        """Computes the relaxed kernel.

        Args:
            mask: Tensor of shape `(units,)`, the soft mask.
            threshold: Scalar in `[0, 1]`, gamma as a share of the largest
                singular value; None for a layer that stays dense.
            steepness: Scalar, `C` in `tau = C / sigma_1`.

        Returns:
            A `Relaxed`.

        Reference: Eqs. 9 to 11 of the paper.
        """
        view = self.view
        kernel = getattr(self.layer, view.attribute)
        shape = kernel.shape
        kernel = ops.cast(kernel.value, "float32")
        if threshold is None:
            for axis, units in view.axes.items():
                kernel = kernel * _along(axis, ops.take(mask, units), shape)
            return Relaxed(kernel)
        # The masks scale rows and columns. Columns are scaled last, on the
        # small side, so that few matrices as large as the kernel are made.
        matrix = df_ops.matricize(kernel, view.rows, view.columns)
        rows, columns = self._factors(mask, shape)
        matrix = rows[:, None] * matrix
        relax = self._relax_wide if view.is_wide else self._relax_tall
        matrix, sigma, rank = relax(matrix, columns, threshold, steepness)
        folded = df_ops.dematricize(matrix, shape, view.rows, view.columns)
        return Relaxed(folded, sigma, rank)

    def _factors(self, mask, shape):
        """The masks of a matrix's rows and of its columns."""
        sides = []
        for axes in (self.view.rows, self.view.columns):
            factor = ops.ones([shape[axis] for axis in axes])
            for place, axis in enumerate(axes):
                if axis in self.view.axes:
                    values = ops.take(mask, self.view.axes[axis])
                    factor = factor * _along(place, values, factor.shape)
            sides.append(ops.reshape(factor, (-1,)))
        return sides

    def _relax_tall(self, matrix, columns, threshold, steepness):
        """Thresholds `matrix * columns` in the metric of the inputs."""
        scaled = columns * self.view.scale
        gram = ops.matmul(
            ops.transpose(matrix), self._weigh(self.moment, matrix)
        )
        gains, sigma, rank = self._gains(
            scaled[:, None] * gram * scaled, threshold, steepness
        )
        right = scaled[:, None] * gains / self.view.scale
        return ops.matmul(matrix, right), sigma, rank

    def _relax_wide(self, matrix, columns, threshold, steepness):
        """The same, through the Gram matrix of the rows."""
        weighted = self._weigh(self.moment, matrix)
        squares = ops.square(columns * self.view.scale)
        gains, sigma, rank = self._gains(
            ops.matmul(weighted * squares, ops.transpose(weighted)),
            threshold,
            steepness,
        )
        # The scale of the columns cancels.
        left = self._weigh(self.inverse_root, gains)
        left = ops.transpose(self._weigh(self.moment, ops.transpose(left)))
        return ops.matmul(left, matrix) * columns, sigma, rank

    def _gains(self, gram, threshold, steepness):
        """The matrix that thresholds, the singular values, the soft rank."""
        spectrum = df_ops.gram_spectrum(gram)
        largest = ops.stop_gradient(ops.maximum(spectrum.sigma[-1], 1e-12))
        gamma = largest * threshold
        tau = steepness / largest
        if self.config.shrinkage == "svt":
            gains, slopes = df_ops.soft_gains(spectrum.sigma, gamma)
        else:
            gains, slopes = df_ops.tanh_gains(spectrum.sigma, gamma, tau)
        rank = df_ops.soft_rank(spectrum.sigma, gamma, tau)
        gains = df_ops.apply_gains(spectrum, gains, slopes)
        return gains, spectrum.sigma, rank

    def _weigh(self, moment, matrix):
        """Multiplies each block of rows of a matrix by a moment."""
        if moment is None:
            return matrix
        size, columns = self.view.moment_size, matrix.shape[1]
        blocks = ops.reshape(matrix, (-1, size, columns))
        return ops.reshape(ops.matmul(moment.value, blocks), matrix.shape)

    def use(self, relaxed):
        """Sets the kernel that the next calls run with; None to forget it."""
        self._relaxed = relaxed

    def call(self, inputs, **kwargs):
        if self._relaxed is None:
            return self.layer(inputs, **kwargs)
        kernel = getattr(self.layer, self.view.attribute)
        # A stateless scope hides the one around it, so it names every value.
        values = [(v, v.value) for v in self.layer.variables if v is not kernel]
        values.append((kernel, self._relaxed.kernel))
        with keras.StatelessScope(state_mapping=values):
            return self.layer(inputs, **kwargs)


def _along(axis, values, shape):
    """Shapes a vector so that it broadcasts along an axis of `shape`."""
    sizes = [1] * len(shape)
    sizes[axis] = -1
    return ops.reshape(values, sizes)


class KernelView:
    """How a layer's kernel follows the units of a graph.

    Args:
        node: `Node` of the layer.
        units: Integer array that maps raw ids to units.
        scheme: Scheme of the layer's pair, None if it stays dense.
        scale: Array of shape `(outputs,)`, or None.
        moment_size: Size of the inputs' second moment, or None.
    """

    def __init__(self, node, units, scheme, scale, moment_size):
        kernel = node.kernel
        self.attribute = kernel.attribute
        self.axes = {
            axis: units[ids].astype("int32")
            for axis, ids in filter(None, (kernel.inputs, kernel.outputs))
        }
        self.scheme = scheme
        self.scale = 1.0
        self.moment_size = None
        self.is_wide = False
        if scheme is None:
            return
        self.rows, self.columns = kernel.schemes[scheme]
        shape = getattr(node.operation, kernel.attribute).shape
        rows = np.prod([shape[axis] for axis in self.rows])
        columns = np.prod([shape[axis] for axis in self.columns])
        self.is_wide = bool(columns > rows)
        if scheme == 1:
            self.moment_size = moment_size
        if scale is not None and self.columns == (kernel.outputs[0],):
            self.scale = (scale / scale.max()).astype("float32")

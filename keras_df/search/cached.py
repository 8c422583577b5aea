"""Relaxed kernels from factors that are renewed every few steps."""

import keras
import numpy as np
from keras import ops

from keras_df.search.factors import SMALLEST_MASK
from keras_df.search.factors import factorize
from keras_df.search.replicas import from_first_host

TOLERANCE = 0.01
"""Largest change of a mask for which a kernel's factors are kept."""


class CachedRelaxation(keras.layers.Layer):
    """Thresholds kernels in singular directions that were found before.

    The weights are frozen, so singular vectors change through the masks
    alone, and slowly. Between two calls of `refresh` they stay as they are:
    the masks scale the thresholded kernel, and singular values follow them to
    first order. A step then costs one product of matrices per kernel and
    direction, and no decomposition. At a refresh the kernels are exact, and
    so are their derivatives, but for the turning of singular vectors with the
    masks.

    Args:
        wrappers: List of `CompressibleLayer`.
        config: `SearchConfig`.
    """

    def __init__(self, wrappers, config, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.config = config
        self._wrappers = wrappers
        self._kernels = [x for x in wrappers if x.view.scheme is not None]
        self._index(self._kernels)
        self._add_factors(self._kernels)
        self.built = True

    def _index(self, wrappers):
        """Lays the channels, lines and singular values of all kernels out.

        A line is a row or a column of a kernel's matrix. One gather serves
        the lines of all kernels, one more their channels.
        """
        units, lines, count = [], [], 0
        self._channel_sizes, self._line_sizes, self._ranks = [], [], []
        for wrapper in wrappers:
            view, starts = wrapper.view, {}
            for axis, of_axis in view.axes.items():
                starts[axis] = count
                units.append(of_axis)
                count += len(of_axis)
            self._channel_sizes.append(sum(map(len, view.axes.values())))
            for axes in (view.rows, view.columns):
                lines.append(_channel_of_lines(view, axes, starts))
                self._line_sizes.append(len(lines[-1]))
            self._ranks.append(min(view.matrix_shape))
        self._units = _joined(units)
        # Lines without a channel read a 1 behind the channels' masks.
        lines = _joined(lines)
        self._lines = np.where(lines < 0, count, lines).astype("int32")
        self._kernel_of = np.repeat(
            np.arange(len(wrappers)), self._ranks
        ).astype("int32")
        self._last = (np.cumsum(self._ranks) - 1).astype("int32")

    def _add_factors(self, wrappers):
        self.anchor = self._state("anchor", (len(self._units),), "ones")
        self.sigma = self._state("sigma", (len(self._kernel_of),), "ones")
        self.left, self.right, self.slopes = [], [], []
        for index, wrapper in enumerate(wrappers):
            view, rank = wrapper.view, self._ranks[index]
            height, width = view.matrix_shape
            channels = self._channel_sizes[index]
            self.left.append(self._state("left", (height, rank)))
            self.right.append(self._state("right", (rank, width)))
            self.slopes.append(self._state("slopes", (rank, channels)))
            # Until the first refresh, the kernel and an identity.
            whole, one = self.left[index], self.right[index]
            if view.is_wide:
                whole, one = one, whole
            whole.assign(view.matrix(wrapper.kernel))
            one.assign(ops.eye(rank))

    def _state(self, name, shape, initializer="zeros"):
        return self.add_weight(
            shape=shape,
            initializer=initializer,
            trainable=False,
            name=name,
            dtype="float32",
            aggregation="only_first_replica",
        )

    def refresh(self, mask, tolerance=None):
        """Renews the factors of kernels whose masks have moved.

        Args:
            mask: Array of shape `(units,)`, the soft mask.
            tolerance: Kernels with no mask that has moved by more keep their
                factors; by default all are renewed.

        Returns:
            Number of kernels whose factors were renewed.
        """
        mask = from_first_host(mask)
        now = np.maximum(mask[self._units], SMALLEST_MASK)
        anchor = np.array(ops.convert_to_numpy(self.anchor))
        sigma = np.array(ops.convert_to_numpy(self.sigma))
        ends, places = np.cumsum(self._channel_sizes), np.cumsum(self._ranks)
        renewed = 0
        for index, wrapper in enumerate(self._kernels):
            start = ends[index] - self._channel_sizes[index]
            channels = slice(start, ends[index])
            moved = np.abs(now[channels] - anchor[channels])
            if tolerance is not None and not np.any(moved > tolerance):
                continue
            factors = factorize(
                wrapper.view,
                wrapper.kernel,
                wrapper.metric,
                _by_axis(wrapper.view, now[channels]),
            )
            factors = from_first_host(factors)
            self.left[index].assign(factors.left)
            self.right[index].assign(factors.right)
            self.slopes[index].assign(factors.slopes)
            anchor[channels] = now[channels]
            sigma[places[index] - self._ranks[index] : places[index]] = (
                factors.sigma
            )
            renewed += 1
        self.anchor.assign(anchor)
        self.sigma.assign(sigma)
        return renewed

    def relax(self, mask, thresholds, steepness):
        """Computes the relaxed kernels.

        Args:
            mask: Tensor of shape `(units,)`, the soft mask.
            thresholds: Tensor with one value in `[0, 1]` for each kernel that
                may become a pair: gamma as a share of the largest singular
                value.
            steepness: Scalar, `C` in `tau = C / sigma_1`.

        Returns:
            Tuple of a list with one float32 tensor per wrapper, its relaxed
            kernel, or a pair of which it is the product where the wrapper
            takes pairs, and a tensor with the soft rank (Eq. 13) of each
            kernel that may become a pair.

        Reference: Eqs. 9 to 11 of the paper.
        """
        if not self._kernels:
            return self._assemble(mask, []), ops.zeros((0,))
        channels = ops.take(mask, self._units)
        gains, ranks = self._gate(channels - self.anchor, thresholds, steepness)
        ratios = ops.append(channels / self.anchor, ops.ones((1,)))
        lines = _split(ops.take(ratios, self._lines), self._line_sizes)
        matrices = [
            self._thresholded(index, gain, *lines[2 * index : 2 * index + 2])
            for index, gain in enumerate(_split(gains, self._ranks))
        ]
        return self._assemble(mask, matrices), ranks

    def _gate(self, moved, thresholds, steepness):
        """Gains of all singular values, and the soft rank of each kernel."""
        shifts = [
            ops.matmul(slopes, of_kernel)
            for slopes, of_kernel in zip(
                self.slopes, _split(moved, self._channel_sizes)
            )
        ]
        sigma = self.sigma + ops.concatenate(shifts)
        largest = ops.maximum(ops.take(self.sigma, self._last), 1e-12)
        gamma = ops.take(thresholds * largest, self._kernel_of)
        tau = ops.take(steepness / largest, self._kernel_of)
        gates = ops.tanh(ops.relu(sigma - gamma) * tau)
        ranks = ops.segment_sum(gates, self._kernel_of, len(self._ranks))
        if self.config.shrinkage == "tanh":
            return gates, ranks
        floor = ops.take(1e-6 * largest, self._kernel_of)
        return ops.relu(sigma - gamma) / ops.maximum(sigma, floor), ranks

    def _thresholded(self, index, gains, rows, columns):
        """One kernel's matrix. The small factor takes the gains and masks."""
        left, right = self.left[index].value, self.right[index].value
        if self._kernels[index].takes_pairs:
            return rows[:, None] * left, gains[:, None] * right * columns
        if self._kernels[index].view.is_wide:
            small = rows[:, None] * left * gains
            return ops.matmul(small, right) * columns
        small = gains[:, None] * right * columns
        return rows[:, None] * ops.matmul(left, small)

    def _assemble(self, mask, matrices):
        """Kernels of all wrappers, in order; pairs stay as they are."""
        matrices, kernels = iter(matrices), []
        for wrapper in self._wrappers:
            if wrapper.view.scheme is None:
                kernels.append(wrapper.view.masked(wrapper.kernel, mask))
                continue
            matrix = next(matrices)
            if not wrapper.takes_pairs:
                matrix = wrapper.view.kernel(matrix)
            kernels.append(matrix)
        return kernels


def _channel_of_lines(view, axes, starts):
    """The place of each line's channel; -1 for a line that is not masked."""
    found = np.full(view.size(axes), -1)
    for axis, places in view.channels(axes).items():
        found = starts[axis] + places
    return found


def _by_axis(view, values):
    sizes = [len(units) for units in view.axes.values()]
    return dict(zip(view.axes, np.split(values, np.cumsum(sizes)[:-1])))


def _joined(arrays):
    return np.concatenate([np.empty(0, "int32"), *arrays]).astype("int32")


def _split(values, sizes):
    if len(sizes) == 1:
        return [values]  # TensorFlow splits into no fewer than two.
    return ops.split(values, np.cumsum(sizes)[:-1].tolist())

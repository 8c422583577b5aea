"""Relaxed kernels from factors that are renewed every few steps."""

import keras
import numpy as np
from keras import ops

from keras_df.search.cached_kernel import CachedKernel
from keras_df.search.cached_kernel import CachedPair
from keras_df.search.factors import SMALLEST_MASK
from keras_df.search.replicas import add_state
from keras_df.search.replicas import from_first_host

TOLERANCE = 0.01
"""Largest change of a mask for which a kernel's factors are kept."""


class CachedRelaxation(keras.layers.Layer):
    """Thresholds kernels in singular directions that were found before.

    The weights are frozen, so singular vectors change through the masks
    alone, and slowly. Between two calls of `refresh` they stay as they are:
    the masks scale the thresholded kernel, what it still reads makes up for
    that, and singular values follow, all to first order. A step then costs a
    product or two of matrices per kernel and direction, and no decomposition.
    At a refresh the kernels are exact, and so are their derivatives, but for
    the turning of singular vectors with the masks.

    Args:
        wrappers: List of `CompressibleLayer`.
        config: `SearchConfig`.

    Attributes:
        kernels: List with a `CachedKernel` for each kernel that is relaxed as
            a matrix.
    """

    def __init__(self, wrappers, config, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.config = config
        self._wrappers = wrappers
        self.kernels = [
            CachedKernel(x) if x.view.scheme is None else CachedPair(x)
            for x in wrappers
            if x.view.is_matrix
        ]
        self._index([x.view for x in self.kernels])
        self.anchor = add_state(self, "anchor", (len(self._units),), "ones")
        self.sigma = add_state(self, "sigma", (len(self._kernel_of),), "ones")
        self.built = True

    def _index(self, views):
        """Lays the channels, lines and singular values of all kernels out.

        A line is a row or a column of a kernel's matrix. One gather serves
        the lines of all kernels, one more their channels.
        """
        units, lines, count = [], [], 0
        self._channel_sizes, self._line_sizes = [], []
        for view in views:
            starts = {}
            for axis, of_axis in view.axes.items():
                starts[axis] = count
                units.append(of_axis)
                count += len(of_axis)
            self._channel_sizes.append(sum(map(len, view.axes.values())))
            for axes in (view.rows, view.columns):
                lines.append(_channel_of_lines(view, axes, starts))
                self._line_sizes.append(len(lines[-1]))
        self._units = _joined(units)
        # Lines without a channel read a 1 behind the channels' masks.
        lines = _joined(lines)
        self._lines = np.where(lines < 0, count, lines).astype("int32")
        self._ranks = [x.rank for x in self.kernels if x.rank]
        self._kernel_of = np.repeat(
            np.arange(len(self._ranks)), self._ranks
        ).astype("int32")
        self._last = (np.cumsum(self._ranks) - 1).astype("int32")

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
        channel_ends = np.cumsum(self._channel_sizes)
        rank_ends = np.cumsum([x.rank for x in self.kernels])
        renewed = 0
        for kernel, end, rank_end, size in zip(
            self.kernels, channel_ends, rank_ends, self._channel_sizes
        ):
            channels = slice(end - size, end)
            moved = np.abs(now[channels] - anchor[channels])
            if tolerance is not None and not np.any(moved > tolerance):
                continue
            masks = _by_axis(kernel.view, now[channels])
            sigma[rank_end - kernel.rank : rank_end] = kernel.renew(masks)
            anchor[channels] = now[channels]
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
        if not self.kernels:
            return self._assemble(mask, []), ops.zeros((0,))
        channels = ops.take(mask, self._units)
        gains, ranks = self._gate(channels - self.anchor, thresholds, steepness)
        ratios = ops.append(channels / self.anchor, ops.ones((1,)))
        lines = _split(ops.take(ratios, self._lines), self._line_sizes)
        relaxed = [
            kernel.relaxed(gain, rows, columns)
            for kernel, gain, rows, columns in zip(
                self.kernels, gains, lines[::2], lines[1::2]
            )
        ]
        return self._assemble(mask, relaxed), ranks

    def _gate(self, moved, thresholds, steepness):
        """Gains of each kernel, and the soft rank of each that has one."""
        if not self._ranks:
            return [None] * len(self.kernels), ops.zeros((0,))
        shifts = [
            ops.matmul(kernel.slopes, of_kernel)
            for kernel, of_kernel in zip(
                self.kernels, _split(moved, self._channel_sizes)
            )
            if kernel.rank
        ]
        sigma = self.sigma + ops.concatenate(shifts)
        largest = ops.maximum(ops.take(self.sigma, self._last), 1e-12)
        gamma = ops.take(thresholds * largest, self._kernel_of)
        tau = ops.take(steepness / largest, self._kernel_of)
        gains = ops.tanh(ops.relu(sigma - gamma) * tau)
        ranks = ops.segment_sum(gains, self._kernel_of, len(self._ranks))
        if self.config.shrinkage == "svt":
            floor = ops.take(1e-6 * largest, self._kernel_of)
            gains = ops.relu(sigma - gamma) / ops.maximum(sigma, floor)
        of_pairs = iter(_split(gains, self._ranks))
        return [next(of_pairs) if x.rank else None for x in self.kernels], ranks

    def _assemble(self, mask, relaxed):
        """Kernels of all wrappers, in order."""
        relaxed = iter(relaxed)
        return [
            next(relaxed) if x.view.is_matrix else x.view.masked(x.kernel, mask)
            for x in self._wrappers
        ]


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

"""Relaxed kernels, every kernel decomposed anew in every step."""

import keras
import numpy as np
from keras import ops

from keras_df import ops as df_ops
from keras_df.search.factors import RIDGE
from keras_df.search.factors import SMALLEST_MASK
from keras_df.search.replicas import add_state


class ExactRelaxation(keras.layers.Layer):
    """Thresholds every kernel anew in every step, as the paper does.

    What `CachedRelaxation` is measured against: exact in value and in
    derivative, and slow.

    Args:
        wrappers: List of `CompressibleLayer`.
        config: `SearchConfig`. With `spectra="svd"` kernels are decomposed
            and differentiated by `keras.ops.svd`, whose derivative is not
            finite where singular values coincide.
    """

    def __init__(self, wrappers, config, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.config = config
        self._wrappers = wrappers
        self._roots = [self._add_roots(wrapper.view) for wrapper in wrappers]
        self.built = True

    def _add_roots(self, view):
        if view.moment_size is None or view.scheme is None:
            return None, None
        if self.config.spectra != "svd" and not view.is_wide:
            return None, None
        shape = (view.moment_size, view.moment_size)
        return tuple(
            add_state(self, name, shape, "identity")
            for name in ("root", "inverse_root")
        )

    def refresh(self, mask=None, tolerance=None):
        """Takes up the wrappers' second moments; the rest is never stale."""
        del mask
        if tolerance is not None:
            return  # Masks may have moved, the moments have not.
        for wrapper, (root, inverse) in zip(self._wrappers, self._roots):
            if root is None:
                continue
            values, vectors = np.linalg.eigh(wrapper.metric.moment)
            scales = np.sqrt(np.maximum(values, 1e-12))
            root.assign((vectors * scales) @ vectors.T)
            inverse.assign((vectors / scales) @ vectors.T)

    def relax(self, mask, thresholds, steepness):
        """Computes the relaxed kernels; see `CachedRelaxation.relax`.

        Reference: Eqs. 9 to 11 of the paper.
        """
        kernels, ranks = [], []
        for wrapper, roots in zip(self._wrappers, self._roots):
            view = wrapper.view
            if not view.is_matrix:
                kernels.append(view.masked(wrapper.kernel, mask))
                continue
            # The masks scale rows and columns. Columns are scaled last, on
            # the small side: few matrices as large as the kernel are made.
            rows, columns = _sides(view, mask)
            matrix = _mask_rows(wrapper, rows)
            if view.scheme is None:
                kernels.append(view.kernel(matrix * columns))
                continue
            mixing = wrapper.mixing
            matrix = _mix(matrix, mixing)
            gate = _Gate(self.config, thresholds[len(ranks)], steepness)
            if self.config.spectra == "svd":
                matrix, rank = _by_svd(wrapper, matrix, columns, roots, gate)
            elif view.is_wide:
                matrix, rank = _wide(wrapper, matrix, columns, roots, gate)
            else:
                matrix, rank = _tall(wrapper, matrix, columns, gate)
            inverse = None if mixing is None else ops.inv(mixing)
            kernels.append(view.kernel(_mix(matrix, inverse)))
            ranks.append(rank)
        return kernels, ops.stack(ranks) if ranks else ops.zeros((0,))


def _sides(view, mask):
    """The masks of a matrix's rows and of its columns."""
    sides = []
    for axes in (view.rows, view.columns):
        factor = ops.ones((view.size(axes),))
        for axis, places in view.channels(axes).items():
            factor = factor * ops.take(mask, view.axes[axis][places])
        sides.append(factor)
    return sides


def _mask_rows(wrapper, rows):
    """The kernel's matrix with masks on its inputs, made up for."""
    view = wrapper.view
    matrix = view.matrix(wrapper.kernel)
    if view.reads is None:
        return rows[:, None] * matrix
    mask = ops.maximum(rows[: view.moment_size], SMALLEST_MASK)
    together = view.reads[:, None] == view.reads
    moment = wrapper.moment.value + RIDGE * ops.eye(view.moment_size)
    compensation = df_ops.compensation(moment, together, mask)
    return matrix - df_ops.weigh(compensation * (1 - mask), matrix)


def _mix(matrix, root):
    """Multiplies each block of columns by a root, if there is one."""
    if root is None:
        return matrix
    blocks = ops.reshape(matrix, (-1, root.shape[0]))
    return ops.reshape(ops.matmul(blocks, root), matrix.shape)


class _Gate:
    """What is done to singular values: gains, and the soft rank (Eq. 13)."""

    def __init__(self, config, threshold, steepness):
        self._shrinkage = config.shrinkage
        self._threshold = threshold
        self._steepness = steepness

    def gains(self, sigma):
        """Returns gains, their slopes, and the soft rank."""
        largest = ops.stop_gradient(ops.maximum(ops.max(sigma), 1e-12))
        gamma = largest * self._threshold
        tau = self._steepness / largest
        if self._shrinkage == "svt":
            gains, slopes = df_ops.soft_gains(sigma, gamma)
        else:
            gains, slopes = df_ops.tanh_gains(sigma, gamma, tau)
        return gains, slopes, df_ops.soft_rank(sigma, gamma, tau)

    def shrink(self, sigma):
        """Returns the values that replace singular values, and the rank."""
        largest = ops.stop_gradient(ops.maximum(ops.max(sigma), 1e-12))
        above = ops.relu(sigma - largest * self._threshold)
        gate = ops.tanh(above * self._steepness / largest)
        shrunk = above if self._shrinkage == "svt" else sigma * gate
        return shrunk, ops.sum(gate)

    def threshold(self, gram):
        """Returns the matrix that thresholds, and the soft rank."""
        spectrum = df_ops.gram_spectrum(gram)
        gains, slopes, rank = self.gains(spectrum.sigma)
        return df_ops.apply_gains(spectrum, gains, slopes), rank


def _tall(wrapper, matrix, columns, gate):
    """Thresholds `matrix * columns` in the metric of the inputs."""
    scaled = columns * wrapper.scale
    weighted = df_ops.weigh(wrapper.moment, matrix)
    gram = ops.matmul(ops.transpose(matrix), weighted)
    gains, rank = gate.threshold(scaled[:, None] * gram * scaled)
    right = scaled[:, None] * gains / wrapper.scale
    return ops.matmul(matrix, right), rank


def _wide(wrapper, matrix, columns, roots, gate):
    """The same, through the Gram matrix of the rows."""
    root, inverse = roots
    weighted = df_ops.weigh(root, matrix)
    squares = ops.square(columns * wrapper.scale)
    gains, rank = gate.threshold(
        ops.matmul(weighted * squares, ops.transpose(weighted))
    )
    # The scale of the columns cancels.
    left = df_ops.weigh(inverse, gains)
    left = ops.transpose(df_ops.weigh(root, ops.transpose(left)))
    return ops.matmul(left, matrix) * columns, rank


def _by_svd(wrapper, matrix, columns, roots, gate):
    """The same, by a singular value decomposition and automatic gradients."""
    root, inverse = roots
    weighted = df_ops.weigh(root, matrix) * (columns * wrapper.scale)
    u, sigma, vt = ops.svd(weighted, full_matrices=False)
    shrunk, rank = gate.shrink(sigma)
    thresholded = ops.matmul(u * shrunk, vt)
    return df_ops.weigh(inverse, thresholded) / wrapper.scale, rank

"""Masked kernels that follow their masks to first order."""

import keras
import numpy as np
from keras import ops

from keras_df import ops as df_ops
from keras_df.search.factors import factorize
from keras_df.search.factors import masked_matrix
from keras_df.search.replicas import add_state
from keras_df.search.replicas import from_first_host


class CachedKernel(keras.layers.Layer):
    """The matrix of a kernel that stays dense, masked.

    Args:
        wrapper: `CompressibleLayer` whose kernel is relaxed as a matrix.

    Attributes:
        rank: Number of singular values to threshold.
    """

    rank = 0

    def __init__(self, wrapper, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.wrapper = wrapper
        self.view = view = wrapper.view
        self.compensation = None
        if view.reads is not None:
            shape = (view.moment_size, view.moment_size)
            self.compensation = add_state(
                self, "compensation", shape, "identity"
            )
        self._add_factors(view)
        self.built = True

    def _add_factors(self, view):
        self.left = add_state(self, "left", view.matrix_shape)
        self.left.assign(self._matrix())

    def _matrix(self):
        """The kernel as a matrix, in a buffer that no variable shares."""
        return ops.copy(self.view.matrix(self.wrapper.kernel))

    def renew(self, masks):
        """Computes the kernel anew.

        Args:
            masks: Dict from each masked axis of the kernel to a float32 array
                with one value in `(0, 1]` per channel.

        Returns:
            Array of shape `(rank,)`, ascending singular values.
        """
        matrix, compensation = from_first_host(
            masked_matrix(*self._arguments(), masks)
        )
        self.left.assign(matrix)
        self._compensate_by(compensation)
        return np.empty(0, "float32")

    def _arguments(self):
        wrapper = self.wrapper
        return wrapper.view, wrapper.kernel, wrapper.metric

    def _compensate_by(self, compensation):
        if self.compensation is not None:
            self.compensation.assign(compensation)

    def relaxed(self, gains, rows, columns):
        """Computes the kernel after its masks have moved.

        Args:
            gains: Tensor of shape `(rank,)`, by what to multiply singular
                values.
            rows, columns: Tensors, by what the masks of each row and of each
                column have been multiplied since the kernel was renewed.

        Returns:
            A kernel, or two matrices whose product it is where the wrapper
            takes pairs.
        """
        del gains
        return self.view.kernel(self._moved(rows) * columns)

    def _moved(self, rows):
        """The left factor after the masks of its rows have moved."""
        left, compensation = self.left.value, self.compensation
        if compensation is None:
            return rows[:, None] * left
        change = (rows - 1.0)[:, None] * left
        return left + df_ops.weigh(compensation.value, change)


class CachedPair(CachedKernel):
    """A kernel's matrix as a product, by singular directions."""

    @property
    def rank(self):
        return min(self.view.matrix_shape)

    def _add_factors(self, view):
        height, width = view.matrix_shape
        channels = sum(map(len, view.axes.values()))
        self.left = add_state(self, "left", (height, self.rank))
        self.right = add_state(self, "right", (self.rank, width))
        self.slopes = add_state(self, "slopes", (self.rank, channels))
        # Until it is renewed, the kernel and an identity.
        whole, one = self.left, self.right
        if view.is_wide:
            whole, one = one, whole
        whole.assign(self._matrix())
        one.assign(ops.eye(self.rank))

    def renew(self, masks):
        factors = from_first_host(factorize(*self._arguments(), masks))
        self.left.assign(factors.left)
        self.right.assign(factors.right)
        self.slopes.assign(factors.slopes)
        self._compensate_by(factors.compensation)
        return factors.sigma

    def relaxed(self, gains, rows, columns):
        """As of a `CachedKernel`. The small factor takes gains and masks."""
        left, right = self._moved(rows), self.right.value
        if self.wrapper.takes_pairs:
            return left, gains[:, None] * right * columns
        if self.view.is_wide:
            matrix = ops.matmul(left * gains, right) * columns
        else:
            matrix = ops.matmul(left, gains[:, None] * right * columns)
        return self.view.kernel(matrix)

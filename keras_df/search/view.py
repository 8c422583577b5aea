"""KernelView: how a layer's kernel follows the units of a graph."""

import math

import numpy as np
from keras import ops

from keras_df import ops as df_ops
from keras_df.graph.scales import column_scales


class KernelView:
    """A layer's kernel as a matrix whose rows and columns are masked.

    Args:
        node: `Node` of the layer.
        graph: `ChannelGraph` of the model.
        free: Boolean array of shape `(units,)`, the units that may go.
        scheme: Scheme of the layer's pair, None if it stays dense.
        scale: Array of shape `(outputs,)`, how much each output counts, or
            None.
        moment_size: Size of the inputs' second moment, or None.

    Attributes:
        attribute: Name of the layer's attribute that is the kernel.
        axes: Dict from an axis of the kernel to the units along it, an
            integer array.
        rows, columns: The axes of the kernel that make its matrix.
        is_wide: Whether the matrix has more columns than rows.
        moment_size: Size of the second moment that the matrix is measured
            by, or None.
        mixing_size: Number of neighboring columns of the matrix that are
            measured together, or None.
        reads: Array of shape `(moment_size,)`, the unit of each input that
            the moment is about; None if there is no moment, or if all of
            them stay.
    """

    def __init__(
        self, node, graph, free, scheme=None, scale=None, moment_size=None
    ):
        kernel = node.kernel
        self.attribute = kernel.attribute
        self.shape = tuple(getattr(node.operation, kernel.attribute).shape)
        self.axes = {
            axis: graph.units[ids].astype("int32")
            for axis, ids in filter(None, (kernel.inputs, kernel.outputs))
        }
        self.scheme = scheme
        self.scale = np.float32(1.0)
        self.moment_size = self.mixing_size = self.reads = None
        self.is_wide = False
        layout = scheme or 1
        if layout not in kernel.schemes:
            return
        self.rows, self.columns = kernel.schemes[layout]
        height, width = self.matrix_shape
        self.is_wide = height < width
        if moment_size is not None:
            self.reads = self._units_read(moment_size, free)
        if scheme or self.reads is not None:
            self.moment_size = moment_size
        if scheme == 2 and moment_size not in (None, self.shape[-2]):
            self.mixing_size = self.shape[1]
        scale = column_scales(node, scheme, scale) if scheme else None
        if scale is not None:
            self.scale = (scale / scale.max()).astype("float32")

    def _units_read(self, count, free):
        """The units of the first rows, which those of each block repeat."""
        for axis, places in self.channels(self.rows).items():
            units = self.axes[axis][places[:count]]
            return units if free[units].any() else None
        return None

    @property
    def is_matrix(self):
        """Whether the search relaxes the kernel as a matrix."""
        return self.scheme is not None or self.reads is not None

    @property
    def matrix_shape(self):
        """Rows and columns of the kernel's matrix."""
        return self.size(self.rows), self.size(self.columns)

    def size(self, axes):
        return math.prod(self.shape[axis] for axis in axes)

    def matrix(self, kernel):
        return df_ops.matricize(kernel, self.rows, self.columns)

    def kernel(self, matrix):
        return df_ops.dematricize(matrix, self.shape, self.rows, self.columns)

    def channels(self, axes):
        """Which masked channel each row, or column, of the matrix belongs to.

        Args:
            axes: `rows` or `columns`.

        Returns:
            Dict from each masked axis among `axes` to an integer array with
            one index along that axis per row.
        """
        sizes = [self.shape[axis] for axis in axes]
        places = np.indices(sizes).reshape(len(sizes), -1)
        return {
            axis: place
            for axis, place in zip(axes, places, strict=True)
            if axis in self.axes
        }

    def masked(self, kernel, mask):
        """Multiplies a kernel by the mask of its inputs and its outputs."""
        for axis, units in self.axes.items():
            sizes = [1] * len(self.shape)
            sizes[axis] = -1
            kernel = kernel * ops.reshape(ops.take(mask, units), sizes)
        return kernel

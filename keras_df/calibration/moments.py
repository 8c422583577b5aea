"""Second moments of what each kernel reads.

With `C` the second moment of a layer's input patches, the error that a
change `D` of its kernel makes on real inputs is `trace(D^T C D)`, not
`|D|^2`. Decomposing in this metric spends the rank where inputs are.
"""

import collections
import math

import numpy as np
from keras import layers
from keras import ops

from keras_df.calibration.data import flat_inputs
from keras_df.graph.rules.convolution import channel_axis
from keras_df.graph.walk import is_graph
from keras_df.graph.walk import walk
from keras_df.graph.walk import walk_nested

LARGEST_PATCH = 1152
LARGEST_CHANNELS = 4096
SAMPLES = 65536
RIDGE = 1e-4
"""Weight of directions that no sample showed, as a share of the mean."""
FEW = 0.1

_TRANSPOSED_LAYERS = (
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
)
_LINEAR_LAYERS = (layers.Conv2D, layers.Dense, layers.SeparableConv2D)
_CHANNEL_LAYERS = (layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.Dense)


def second_moments(model, batches, paths):
    """Measures the second moments of the inputs of kernels.

    Args:
        model: A built Functional or Sequential model, run in inference mode.
        batches: List of model inputs, as `take_batches` returns.
        paths: Collection of the paths of the layers to measure.

    Returns:
        Dict from path to a float64 array of shape `(n, n)`. `n` is the number
        of rows of the Scheme 1 matrix where that is small, and otherwise the
        number of input channels, for one moment shared by all taps of the
        kernel. Layers that read more channels than can be measured, and
        layers of other types, are left out.
    """
    recorder = _Recorder(set(paths))
    for batch in batches:
        recorder.start(len(batches))
        walk(model, flat_inputs(model, batch), recorder.visit)
    return recorder.moments()


class _Recorder:
    def __init__(self, paths):
        self._paths = paths
        self._sums = {}
        self._counts = collections.Counter()

    def start(self, batches):
        self._share = SAMPLES // batches

    def visit(self, path, operation, *args, **kwargs):
        if is_graph(operation):
            return walk_nested(path, operation, self.visit, args, kwargs)
        layer = getattr(operation, "calibrated_layer", operation)
        name = "/".join(path)
        if name in self._paths:
            self._record(name, layer, args[0] if args else kwargs["inputs"])
        kwargs.pop("training", None)
        if isinstance(layer, layers.Layer):
            kwargs["training"] = False  # A layer may have another default.
        return layer(*args, **kwargs)

    def _record(self, name, layer, tensor):
        rows = _rows_read(layer, tensor, self._share)
        if rows is None:
            return
        # Positions are many and alike: a regular sample of them will do.
        rows = ops.cast(rows[:: _stride(rows, self._share)], "float32")
        moment = ops.convert_to_numpy(ops.matmul(ops.transpose(rows), rows))
        self._counts[name] += rows.shape[0]
        if name in self._sums:
            self._sums[name] += moment
        else:
            self._sums[name] = moment.astype(float)

    def moments(self):
        result = {}
        for name in list(self._sums):
            moment = self._sums.pop(name)  # They are large: one at a time.
            scale = max(np.trace(moment) / len(moment), 1e-12)
            moment /= scale
            share = ridge(RIDGE, len(moment), self._counts[name])
            moment[np.diag_indices(len(moment))] += share
            result[name] = moment
        return result


def ridge(least, inputs, samples):
    """What to add to a moment's diagonal, as a share of its mean.

    A moment of few samples says little beside what they happen to be.

    Args:
        least: Number, the ridge of a moment of countless samples.
        inputs: Integer, the size of the moment.
        samples: Integer, how many samples it was measured on.
    """
    return least + FEW * inputs / samples


def moment_of_scheme(layer, scheme, moment):
    """The second moment by which the matrix of a scheme is measured.

    Scheme 2 cuts a patch into the columns of its window. What the first
    convolution of the pair reads is one of them, so its moment is the mean
    over the columns; how they vary together is left out.

    Args:
        layer: A layer with a kernel.
        scheme: 1 or 2, or None for a layer that stays dense.
        moment: Array from `second_moments`.

    Returns:
        Array of shape `(n, n)`, `n` a divisor of the matrix's rows.
    """
    if scheme != 2 or len(moment) == layer.kernel.shape[-2]:
        return moment
    by_column = moment_by_column(moment, layer.kernel.shape[:2])
    return np.einsum("akbk->ab", by_column) / by_column.shape[1]


def moment_by_column(moment, window):
    """Arranges the second moment of patches by the columns of the window.

    Args:
        moment: Array of shape `(n, n)`, of patches `(height, width, inputs)`.
        window: Tuple `(height, width)`.

    Returns:
        Array of shape `(height * inputs, width, height * inputs, width)`.
    """
    height, width = window
    inputs = len(moment) // (height * width)
    blocks = moment.reshape(2 * (height, width, inputs))
    size = height * inputs
    return blocks.transpose(0, 2, 1, 3, 5, 4).reshape(2 * (size, width))


def moment_size(layer, scheme=1):
    """Size of the second moment of the matrix of a scheme, or None."""
    size = _measured_size(layer)
    if scheme != 2 or size in (None, layer.kernel.shape[-2]):
        return size
    return size // layer.kernel.shape[1]


def _measured_size(layer):
    if getattr(layer, "groups", 1) > 1:
        return None  # Each group reads channels of its own.
    if isinstance(layer, layers.Conv2D) and _small_patch(layer):
        return math.prod(layer.kernel.shape[:-1])
    if isinstance(layer, layers.SeparableConv2D):
        channels = layer.pointwise_kernel.shape[-2]
    elif isinstance(layer, _TRANSPOSED_LAYERS):
        channels = layer.kernel.shape[-1]
    elif isinstance(layer, _CHANNEL_LAYERS):
        channels = layer.kernel.shape[-2]
    else:
        return None
    return channels if channels <= LARGEST_CHANNELS else None


def weigh(moment, matrix):
    """Multiplies each block of rows of an array by a moment, if there is one.

    Args:
        moment: Array of shape `(n, n)`, or None.
        matrix: Array of shape `(blocks * n, columns)`.

    Returns:
        Array of the shape of `matrix`.
    """
    if moment is None:
        return matrix
    blocks = matrix.reshape(-1, len(moment), matrix.shape[1])
    return np.matmul(moment, blocks).reshape(matrix.shape)


def linear_rows(layer, tensor, enough):
    """The rows that a layer multiplies by the Scheme 1 matrix of its kernel.

    Args:
        layer: A layer with a kernel.
        tensor: What the layer reads.
        enough: Number of rows that are enough.

    Returns:
        Float32 tensor with one row per output position: all positions, or a
        regular sample of at least `enough`. None for layers that are not one
        product of matrices, or of one too large.
    """
    if type(layer) not in _LINEAR_LAYERS or _measured_size(layer) is None:
        return None
    if type(layer) is layers.Conv2D:
        if math.prod(layer.kernel.shape[:-1]) > LARGEST_CHANNELS:
            return None
        rows = _patches(layer, tensor, enough)
    else:
        rows = _channel_rows(layer, tensor)
    return ops.cast(rows[:: _stride(rows, enough)], "float32")


def _rows_read(layer, tensor, enough):
    """What output positions of a layer read, one row per position.

    All positions, or a sample of at least `enough` of them.
    """
    if _measured_size(layer) is None:
        return None
    if isinstance(layer, layers.Conv2D) and _small_patch(layer):
        return _patches(layer, tensor, enough)
    return _channel_rows(layer, tensor)


def _channel_rows(layer, tensor):
    tensor = ops.convert_to_tensor(tensor, sparse=False)
    if isinstance(layer, layers.SeparableConv2D):
        tensor = ops.depthwise_conv(
            tensor,
            layer.depthwise_kernel,
            strides=layer.strides,
            padding=layer.padding,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
        )
    axis = -1 if isinstance(layer, layers.Dense) else channel_axis(layer)
    tensor = ops.moveaxis(tensor, axis, -1)
    return ops.reshape(tensor, (-1, tensor.shape[-1]))


def _stride(rows, enough):
    return max(1, rows.shape[0] // enough)


def _small_patch(layer):
    height, width, channels, _ = layer.kernel.shape
    return height * width * channels <= LARGEST_PATCH


def _patches(layer, tensor, enough):
    if layer.data_format == "channels_first":
        tensor = ops.moveaxis(tensor, 1, -1)
    strides = layer.strides
    if layer.dilation_rate != (1, 1):
        strides = (1, 1)  # Not both at once in `extract_patches`.
    else:
        positions = math.prod(tensor.shape[:3]) / math.prod(strides)
        step = max(1, math.isqrt(int(positions / enough)))
        strides = tuple(stride * step for stride in strides)
    patches = ops.image.extract_patches(
        tensor,
        layer.kernel_size,
        strides=strides,
        dilation_rate=layer.dilation_rate,
        padding=layer.padding,
        data_format="channels_last",
    )
    return ops.reshape(patches, (-1, patches.shape[-1]))

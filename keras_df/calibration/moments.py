"""Second moments of what each kernel reads.

With `C` the second moment of a layer's input patches, the error that a
change `D` of its kernel makes on real inputs is `trace(D^T C D)`, not
`|D|^2`. Decomposing in this metric spends the rank where inputs are.
"""

import collections
import math

import keras
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
        inputs = flat_inputs(model, batch)
        with keras.StatelessScope():  # A recurrent layer may keep its state.
            walk(model, inputs, recorder.visit)
    return recorder.moments()


class _Recorder:
    def __init__(self, paths):
        self._paths = paths
        self._sums = {}
        self._counts = collections.Counter()
        self._names = {}

    def start(self, batches):
        self._share = SAMPLES // batches

    def visit(self, path, operation, *args, **kwargs):
        if is_graph(operation):
            return walk_nested(path, operation, self.visit, args, kwargs)
        layer = getattr(operation, "calibrated_layer", operation)
        # A layer that several models share is known by its first path.
        name = self._names.setdefault(id(operation), "/".join(path))
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
        rows = ops.cast(rows, "float32")
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


def linear_rows(layer, tensor, enough):
    """The rows that a layer multiplies by the Scheme 1 matrix of its kernel.

    Args:
        layer: A layer with a kernel.
        tensor: What the layer reads.
        enough: Number of rows that are enough.

    Returns:
        Float32 tensor with one row per output position: all positions, or a
        regular sample of about `enough`. None for layers that are not one
        product of matrices, or of one too large.
    """
    if type(layer) not in _LINEAR_LAYERS or _measured_size(layer) is None:
        return None
    if type(layer) is layers.Conv2D:
        if math.prod(layer.kernel.shape[:-1]) > LARGEST_CHANNELS:
            return None
        rows = _patches(layer, tensor, enough)
    else:
        rows = _channel_rows(layer, tensor, enough)
    return ops.cast(rows, "float32")


def _rows_read(layer, tensor, enough):
    """What output positions of a layer read, one row per position.

    All positions, or a regular sample of about `enough` of them.
    """
    if _measured_size(layer) is None:
        return None
    if isinstance(layer, layers.Conv2D) and _small_patch(layer):
        return _patches(layer, tensor, enough)
    return _channel_rows(layer, tensor, enough)


def _channel_rows(layer, tensor, enough):
    tensor = ops.convert_to_tensor(tensor, sparse=False)
    if isinstance(layer, layers.SeparableConv2D):
        tensor = ops.depthwise_conv(
            ops.cast(tensor, "float32"),
            ops.cast(layer.depthwise_kernel, "float32"),
            strides=layer.strides,
            padding=layer.padding,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
        )
    axis = -1 if isinstance(layer, layers.Dense) else channel_axis(layer)
    tensor = ops.moveaxis(tensor, axis, -1)
    rows = ops.reshape(tensor, (-1, tensor.shape[-1]))
    return rows[:: _step(len(rows), enough)]


def _step(positions, enough):
    """Positions are many and alike: a regular sample of them will do."""
    return max(1, positions // enough)


def _small_patch(layer):
    height, width, channels, _ = layer.kernel.shape
    return height * width * channels <= LARGEST_PATCH


def _patches(layer, tensor, enough):
    """What a Conv2D reads at a regular sample of its output positions."""
    if layer.data_format == "channels_first":
        tensor = ops.moveaxis(tensor, 1, -1)
    tensor = _padded(layer, tensor)
    batch, height, width, channels = tensor.shape
    taps = _places(layer.kernel_size, layer.dilation_rate, width)
    room = (height - taps[-1] // width, width - taps[-1] % width)
    outputs = [-(-n // s) for n, s in zip(room, layer.strides)]
    corners = _places(outputs, layer.strides, width)
    corners = (np.arange(batch)[:, None] * (height * width) + corners).ravel()
    step = _step(len(corners), enough)
    while math.gcd(step, outputs[1]) > 1:
        step += 1  # Or some columns of the image would never be looked at.
    places = corners[::step, None] + taps
    pixels = ops.reshape(tensor, (-1, channels))
    patches = ops.take(pixels, places.astype("int32"), axis=0)
    return ops.reshape(patches, (len(places), -1))


def _places(counts, steps, width):
    """Where a grid of pixels lies in an image, row after row."""
    rows, columns = (np.arange(n) * step for n, step in zip(counts, steps))
    return (rows[:, None] * width + columns).ravel()


def _padded(layer, tensor):
    """Pads images as a Conv2D does."""
    if layer.padding == "valid":
        return tensor
    margins = []
    for size, taps, rate, stride in zip(
        tensor.shape[1:3],
        layer.kernel_size,
        layer.dilation_rate,
        layer.strides,
    ):
        reach = (math.ceil(size / stride) - 1) * stride + (taps - 1) * rate + 1
        missing = max(reach - size, 0)
        margins.append((missing // 2, missing - missing // 2))
    return ops.pad(tensor, [(0, 0), *margins, (0, 0)])

"""How much each output of a kernel counts: the BatchNormalization behind it."""

import numpy as np
from keras import layers


def norms_behind(graph):
    """Finds the BatchNormalization behind each kernel.

    Args:
        graph: `ChannelGraph`.

    Returns:
        Dict from the path of each layer whose output only a
        BatchNormalization reads to that BatchNormalization.
    """
    readers = {}
    for node in graph.nodes.values():
        for tensors in node.inputs:
            for tensor in tensors:
                readers.setdefault(id(tensor), []).append(node.operation)
    norms = {}
    for path, node in graph.kernels().items():
        output = node.flow.outputs[0]
        behind = readers.get(id(output), [])
        if len(node.flows) != 1 or len(behind) != 1:
            continue
        if _normalizes(behind[0], output):
            norms[path] = behind[0]
    return norms


def _normalizes(operation, tensor):
    if not isinstance(operation, layers.BatchNormalization):
        return False
    return operation.axis % len(tensor.shape) == tensor.axis


def output_scales(graph):
    """Returns the scales by which BatchNormalization multiplies kernels.

    Args:
        graph: `ChannelGraph`.

    Returns:
        Dict from the paths of `norms_behind` to float arrays of shape
        `(outputs,)`: `|gamma| / sqrt(variance + epsilon)`.
    """
    norms = norms_behind(graph)
    return {path: _scale(norm) for path, norm in norms.items()}


def column_scales(node, scheme, scale):
    """Returns how much each column of a kernel's matrix counts.

    Args:
        node: `Node` with a kernel.
        scheme: Number of the scheme by which the kernel is a matrix.
        scale: Array of shape `(outputs,)`, how much each output counts, or
            None.

    Returns:
        Array of shape `(columns,)`, or None where outputs count alike or are
        no axis of the columns.
    """
    kernel = node.kernel
    _, columns = kernel.schemes[scheme]
    if scale is None or kernel.outputs[0] not in columns:
        return None
    shape = getattr(node.operation, kernel.attribute).shape
    sizes = [shape[axis] for axis in columns]
    place = columns.index(kernel.outputs[0])
    # Of pruned outputs, the scale knows how many are left.
    sizes[place] = len(scale)
    return scale[np.indices(sizes)[place].ravel()]


def _scale(norm):
    variance = np.asarray(norm.moving_variance, float)
    scale = 1.0 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        scale = scale * np.abs(np.asarray(norm.gamma, float))
    # An output that the normalization silences still needs a finite inverse.
    return np.maximum(scale, 1e-3 * scale.max() or 1.0)

"""Reading a few batches of whatever `Model.fit` accepts."""

import itertools

import keras
import numpy as np
from keras import ops

from keras_df.checks import check_positive_integer
from keras_df.checks import shown
from keras_df.graph.walk import graph_of
from keras_df.graph.walk import is_graph

_NO_DATA = (str, bytes, dict, set, frozenset)
"""What Python iterates over, but not by batches."""


def take_batches(data, steps, batch_size=128):
    """Takes the inputs of the first batches of a data set.

    The samples of arrays may be sorted, by class say: each batch is spread
    over all of them.

    Args:
        data: What `Model.fit` accepts as `x`: a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, an array, a dict of arrays, or an
            iterable of batches, such as a list. A tuple is read as
            `(inputs, targets, ...)`.
        steps: Largest number of batches to take.
        batch_size: Number of samples per batch, for arrays.

    Returns:
        List of model inputs, each with the batch axis first.

    Raises:
        ValueError: If there is no batch at all, or a number is not a
            positive integer.
        TypeError: If `data` is nothing that can be read.

    Example:

    >>> len(take_batches(np.zeros((1000, 32, 32, 3)), steps=2))
    2
    """
    return list(stream_batches(data, steps, batch_size))


def stream_batches(data, steps, batch_size=128):
    """Yields what `take_batches` returns, one batch in memory at a time."""
    check_positive_integer("steps", steps)
    check_positive_integer("batch_size", batch_size)
    is_empty = True
    for batch in itertools.islice(iterate_batches(data, batch_size), steps):
        is_empty = False
        yield batch
    if is_empty:
        raise ValueError(
            "The data set is empty: it has no batch to read. A generator that "
            "was read before is empty too; make a new one."
        )


def as_fit_reads(model, data):
    """Returns data with the arrays of several inputs told from batches.

    Args:
        model: The model that is to read it.
        data: As for `take_batches`, or a list with one array per input of a
            model that has several, which `Model.fit` takes too.
    """
    if not isinstance(data, list) or not is_graph(model):
        return data
    count = len(graph_of(model).inputs)
    are_arrays = all(hasattr(x, "shape") for x in data)
    return (data,) if are_arrays and 1 < count == len(data) else data


def iterate_batches(data, batch_size=128):
    """Iterates over the inputs of a data set's batches.

    Args:
        data: As for `take_batches`.
        batch_size: Number of samples per batch, for arrays.

    Returns:
        Iterator of model inputs, each with the batch axis first.

    Raises:
        TypeError: If `data` is nothing that can be read.
    """
    if isinstance(data, tuple) and data:
        data = data[0]
        whole = _is_arrays(data)
    else:
        whole = _is_arrays(data) and not isinstance(data, list)
    if whole:
        return _array_batches(data, batch_size)
    if isinstance(data, keras.utils.PyDataset):
        count = data.num_batches
        indices = itertools.count() if count is None else range(count)
        return (_inputs(_as_tuple(data[index])) for index in indices)
    if hasattr(data, "__iter__") and not isinstance(data, _NO_DATA):
        if _is_torch_loader(data):
            return (_inputs(_as_tuple(batch)) for batch in data)
        return map(_inputs, data)
    raise TypeError(
        "Expected data as `Model.fit` takes it: a `tf.data.Dataset`, a "
        "`keras.utils.PyDataset`, arrays or an iterable of batches. "
        f"Received: {shown(data)}"
    )


def flat_inputs(model, batch):
    """Lists the tensors of a batch in the order of a model's inputs.

    Args:
        model: A built Functional or Sequential model.
        batch: Model inputs, as `model(batch)` takes them: in the structure
            of the model's inputs, or a dict by their names.

    Returns:
        List of tensors.

    Raises:
        ValueError: If the batch does not fit the model's inputs, or holds
            NaN or infinite values.
    """
    inputs = graph_of(model).inputs
    try:
        tensors = graph_of(model)._standardize_inputs(batch)
    except Exception as error:
        raise ValueError(_mismatch(model, batch)) from error
    if len(tensors) != len(inputs):
        raise ValueError(_mismatch(model, batch))
    for spec, tensor in zip(inputs, tensors):
        if tensor is None or getattr(spec, "sparse", False):
            continue
        if not _fits(tensor.shape, spec.shape):
            raise ValueError(_mismatch(model, batch))
        kind = keras.backend.standardize_dtype(tensor.dtype)
        if "float" in kind and not ops.all(ops.isfinite(tensor)):
            raise ValueError(
                f"The data for input '{spec.name}' of model '{model.name}' "
                "holds values that are not finite. Look for NaN or infinite "
                "values in it and remove or replace them."
            )
    return tensors


def _fits(shape, wanted):
    """Whether a tensor has the sizes of an input, its batch aside."""
    return len(shape) == len(wanted) and all(
        size is None or size == got for got, size in zip(shape[1:], wanted[1:])
    )


def _mismatch(model, batch):
    wanted = {x.name: tuple(x.shape) for x in graph_of(model).inputs}
    received = keras.tree.map_structure(_described, batch)
    return (
        f"The data does not fit model '{model.name}', whose inputs have the "
        f"shapes {wanted}. Received a batch with: {received}"
    )


def _described(value):
    shape = getattr(value, "shape", None)
    return shown(value) if shape is None else tuple(shape)


def _is_arrays(data):
    flat = keras.tree.flatten(data)
    return bool(flat) and all(
        hasattr(x, "shape") and hasattr(x, "__getitem__") for x in flat
    )


def _array_batches(data, batch_size):
    """Cuts arrays into batches, each spread over all samples."""
    shapes = [tuple(x.shape) for x in keras.tree.flatten(data)]
    sizes = {shape[:1] for shape in shapes}
    if len(sizes) > 1 or () in sizes:
        raise ValueError(
            "The arrays of a data set must have the same number of samples. "
            f"Received arrays of the shapes: {shapes}"
        )
    ((size,),) = sizes
    count = -(-size // batch_size)

    def batch(start):
        return keras.tree.map_structure(lambda x: _dense(x[start::count]), data)

    return map(batch, range(count))


def _dense(rows):
    """An array, of a sparse one of SciPy's too."""
    return rows.toarray() if hasattr(rows, "toarray") else np.asarray(rows)


def _as_tuple(batch):
    """Of a `PyDataset` or a PyTorch loader, Keras reads lists as tuples."""
    return tuple(batch) if isinstance(batch, list) else batch


def _is_torch_loader(data):
    return any(
        kind.__name__ == "DataLoader"
        and kind.__module__.startswith("torch.utils.data")
        for kind in type(data).__mro__
    )


def _inputs(batch):
    if isinstance(batch, tuple):
        return keras.utils.unpack_x_y_sample_weight(batch)[0]
    return batch

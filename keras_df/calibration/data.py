"""Reading a few batches of whatever `Model.fit` accepts."""

import itertools

import keras
import numpy as np


def take_batches(data, steps, batch_size=128):
    """Takes the inputs of the first batches of a data set.

    Args:
        data: What `Model.fit` accepts as `x`: a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, an iterable of batches, an array, or a
            dict of arrays. A tuple is read as `(inputs, targets, ...)`.
        steps: Largest number of batches to take.
        batch_size: Number of samples per batch, for arrays.

    Returns:
        List of model inputs, each with the batch axis first.

    Raises:
        ValueError: If there is no batch at all.
        TypeError: If `data` is nothing that can be read.

    Example:

    >>> len(take_batches(np.zeros((1000, 32, 32, 3)), steps=2))
    2
    """
    if isinstance(data, (tuple, list)) and not _is_batches(data):
        data = data[0]
    if _is_arrays(data):
        batches = _array_batches(data, steps, batch_size)
    elif isinstance(data, keras.utils.PyDataset):
        count = data.num_batches
        count = steps if count is None else min(count, steps)
        batches = [_inputs(data[index]) for index in range(count)]
    elif hasattr(data, "__iter__"):
        batches = [_inputs(x) for x in itertools.islice(iter(data), steps)]
    else:
        raise TypeError(
            "Expected data as `Model.fit` takes it: a `tf.data.Dataset`, a "
            "`keras.utils.PyDataset`, arrays or an iterable of batches. "
            f"Received: {data!r} (of type {type(data)})"
        )
    if not batches:
        raise ValueError("The data set is empty: it has no batch to read.")
    return batches


def _is_arrays(data):
    flat = keras.tree.flatten(data)
    return bool(flat) and all(
        hasattr(x, "shape") and hasattr(x, "__getitem__") for x in flat
    )


def _is_batches(data):
    """A list of batches, as this module returns it, rather than one pair."""
    return isinstance(data, list) and len(data) and _is_arrays(data[0])


def _array_batches(data, steps, batch_size):
    def batch(start):
        return keras.tree.map_structure(
            lambda x: np.asarray(x[start : start + batch_size]), data
        )

    size = len(keras.tree.flatten(data)[0])
    return [batch(start) for start in range(0, size, batch_size)[:steps]]


def _inputs(batch):
    if isinstance(batch, tuple):
        return keras.utils.unpack_x_y_sample_weight(batch)[0]
    return batch

"""Reading a few batches of whatever `Model.fit` accepts."""

import itertools

import keras
import numpy as np

from keras_df.graph.walk import graph_of


def take_batches(data, steps, batch_size=128):
    """Takes the inputs of the first batches of a data set.

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
        ValueError: If there is no batch at all.
        TypeError: If `data` is nothing that can be read.

    Example:

    >>> len(take_batches(np.zeros((1000, 32, 32, 3)), steps=2))
    2
    """
    batches = list(itertools.islice(iterate_batches(data, batch_size), steps))
    if not batches:
        raise ValueError("The data set is empty: it has no batch to read.")
    return batches


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
        return (_inputs(data[index]) for index in indices)
    if hasattr(data, "__iter__"):
        return map(_inputs, data)
    raise TypeError(
        "Expected data as `Model.fit` takes it: a `tf.data.Dataset`, a "
        "`keras.utils.PyDataset`, arrays or an iterable of batches. "
        f"Received: {data!r} (of type {type(data)})"
    )


def flat_inputs(model, batch):
    """Lists the tensors of a batch in the order of a model's inputs.

    Args:
        model: A built Functional or Sequential model.
        batch: Model inputs, as `model(batch)` takes them: in the structure
            of the model's inputs, or a dict by their names.

    Returns:
        List of tensors.
    """
    return graph_of(model)._standardize_inputs(batch)


def _is_arrays(data):
    flat = keras.tree.flatten(data)
    return bool(flat) and all(
        hasattr(x, "shape") and hasattr(x, "__getitem__") for x in flat
    )


def _array_batches(data, batch_size):
    def batch(start):
        return keras.tree.map_structure(
            lambda x: np.asarray(x[start : start + batch_size]), data
        )

    size = len(keras.tree.flatten(data)[0])
    return map(batch, range(0, size, batch_size))


def _inputs(batch):
    if isinstance(batch, tuple):
        return keras.utils.unpack_x_y_sample_weight(batch)[0]
    return batch

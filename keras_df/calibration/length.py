"""How many batches there are in what `Model.fit` accepts."""

import inspect
import math

import keras


def batch_count(data, batch_size=None, validation_split=None):
    """Number of batches in one pass over data, None if endless or unknown.

    Args:
        data: What `Model.fit` accepts as `x`, or a tuple with it.
        batch_size: Number of samples per batch, for arrays; by default 32,
            as in `Model.fit`.
        validation_split: Share of the samples of arrays that `Model.fit`
            does not train on.
    """
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches
    if hasattr(data, "cardinality"):
        # Of a distributed data set it is a property.
        count = data.cardinality
        count = int(count() if callable(count) else count)
        return count if count >= 0 else None
    shapes = [getattr(x, "shape", None) for x in keras.tree.flatten(data)]
    if shapes and all(shapes):
        samples = math.floor(shapes[0][0] * (1 - (validation_split or 0)))
        return math.ceil(samples / (batch_size or 32))
    return None if isinstance(data, (list, tuple)) else _length(data)


def _length(loader):
    try:
        return len(loader)
    except TypeError:  # As of a PyTorch loader of an endless stream.
        return None


def is_of_unknown_length(data):
    """Whether Keras cannot know how many batches data has."""
    is_stream = (
        isinstance(data, keras.utils.PyDataset)
        or hasattr(data, "cardinality")
        or inspect.isgenerator(data)
    )
    return is_stream and batch_count(data) is None

"""recalibrate: BatchNormalization statistics of a compressed model."""

import functools
import math

import keras
import numpy as np
from keras import layers
from keras import ops

from keras_df.calibration import as_fit_reads
from keras_df.calibration import flat_inputs
from keras_df.calibration import stream_batches
from keras_df.checks import check_positive_integer
from keras_df.checks import check_type
from keras_df.graph.walk import is_graph


def recalibrate(model: keras.Model, data, steps: int = 50) -> None:
    """Measures the BatchNormalization statistics of a model anew.

    A compressed layer writes other values than the original did, so the
    moving statistics it was trained with no longer hold. They are replaced by
    those of `data`; no other weight changes. Without it, accuracy before
    fine-tuning is meaningless.

    Only BatchNormalization runs in training mode. All else runs as it does at
    inference: dropout is off, and no other layer updates its state.

    Args:
        model: `keras.Model`, modified in place.
        data: Training data, as `Model.fit` takes it; targets are ignored.
        steps: Number of batches to read.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If `data` is empty or holds values that are not finite.

    Example:

    ```python
    small = keras_df.compress(model, plan)
    keras_df.recalibrate(small, train, steps=50)
    ```
    """
    check_type("model", model, keras.Model, "a `keras.Model`")
    check_positive_integer("steps", steps)
    norms = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, layers.BatchNormalization)
    ]
    if not norms:
        return

    def batches():
        for batch in stream_batches(as_fit_reads(model, data), steps):
            if is_graph(model):
                flat_inputs(model, batch)  # Refuses what does not fit.
            batch = keras.tree.map_structure(_as_tensor, batch)
            yield functools.partial(model, batch, training=False)

    _measure(norms, batches())


def recalibrate_layer(norm, calls):
    """Measures the statistics of one layer anew.

    Args:
        norm: BatchNormalization layer, modified in place.
        calls: List with, per batch, the `(args, kwargs)` it is called with.
    """
    runs = (functools.partial(norm, *args, **kw) for args, kw in calls)
    _measure([norm], runs)


def _as_tensor(value):
    """An optional input may be None."""
    return None if value is None else ops.convert_to_tensor(value)


def _measure(norms, runs):
    """Pools the statistics that layers see while functions are run."""
    settings = [(norm.momentum, norm.trainable) for norm in norms]
    pools = [_Pool(norm) for norm in norms]
    try:
        for norm, pool in zip(norms, pools):
            # The moving statistics become those of a call.
            norm.trainable, norm.momentum = True, 0.0
            norm.call = pool.call
        for run in runs:
            with keras.StatelessScope():  # No other state is to change.
                run()
    finally:
        for norm, (momentum, trainable) in zip(norms, settings):
            del norm.call
            norm.momentum, norm.trainable = momentum, trainable
    found = [pool.statistics() for pool in pools]
    if not all(np.isfinite(x).all() for pair in found for x in pair):
        raise ValueError(
            "The data gives BatchNormalization statistics that are not "
            "finite. Look for NaN or infinite values in it. The model's "
            "statistics are left as they were."
        )
    for norm, (mean, variance) in zip(norms, found):
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(variance)
        if getattr(norm, "renorm", False):  # Training starts from this one.
            norm.moving_stddev.assign(np.sqrt(variance + norm.epsilon))


def _statistics(norm):
    statistics = (norm.moving_mean, norm.moving_variance)
    return [np.asarray(value).astype(float) for value in statistics]


class _Pool:
    """The statistics of all that a BatchNormalization is called with.

    Args:
        norm: The layer, with a momentum of 0.
    """

    def __init__(self, norm):
        self._norm = norm
        self._call = norm.call
        self._count, self._mean, self._square = 0, 0.0, 0.0

    def call(self, inputs, *args, **kwargs):
        """Takes the place of the layer's `call`; no weight changes."""
        if self._norm._call_has_training_arg:
            kwargs["training"] = True
        with keras.StatelessScope():
            outputs = self._call(inputs, *args, **kwargs)
            mean, variance = _statistics(self._norm)
        count = math.prod(inputs.shape) / len(mean)
        if kwargs.get("mask") is not None:
            count = np.count_nonzero(kwargs["mask"])
        self._count += count
        self._mean += count * mean
        self._square += count * (variance + mean**2)
        return outputs

    def statistics(self):
        """Returns the mean and the variance."""
        if not self._count:  # The data does not reach it.
            return _statistics(self._norm)
        mean, square = self._mean / self._count, self._square / self._count
        return mean, np.maximum(square - mean**2, 0.0)

"""recalibrate: BatchNormalization statistics of a compressed model."""

import functools

import keras
import numpy as np
from keras import layers
from keras import ops

from keras_df.calibration import flat_inputs
from keras_df.calibration import take_batches
from keras_df.checks import check_positive_integer
from keras_df.checks import check_type
from keras_df.graph.walk import is_graph


def recalibrate(model: keras.Model, data, steps: int = 50) -> None:
    """Measures the BatchNormalization statistics of a model anew.

    A compressed layer writes other values than the original did, so the
    moving statistics it was trained with no longer hold. They are replaced by
    those of `data`; no other weight changes. Without it, accuracy before
    fine-tuning is meaningless.

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
        for batch in take_batches(data, steps):
            if is_graph(model):
                flat_inputs(model, batch)  # Refuses what does not fit.
            batch = keras.tree.map_structure(ops.convert_to_tensor, batch)
            yield functools.partial(model, batch, training=True)

    _measure(norms, batches())


def recalibrate_layer(norm, calls):
    """Measures the statistics of one layer anew.

    Args:
        norm: BatchNormalization layer, modified in place.
        calls: List with, per batch, the `(args, kwargs)` it is called with.
    """
    _measure(
        [norm],
        (
            functools.partial(norm, *args, **{**kwargs, "training": True})
            for args, kwargs in calls
        ),
    )


def _measure(norms, runs):
    """Pools the statistics that layers see while functions are run."""
    settings = [(norm.momentum, norm.trainable) for norm in norms]
    before = [_statistics(norm) for norm in norms]
    try:
        for norm in norms:
            # The moving statistics become those of the last batch.
            norm.trainable, norm.momentum = True, 0.0
        sums, count = None, 0
        for run in runs:
            run()
            seen = [_raw_moments(norm) for norm in norms]
            sums = seen if sums is None else _add(sums, seen)
            count += 1
        after = [_pooled(total, count) for total in sums]
        if not all(np.isfinite(x).all() for pair in after for x in pair):
            raise ValueError(
                "The data gives BatchNormalization statistics that are not "
                "finite. Look for NaN or infinite values in it. The model's "
                "statistics are left as they were."
            )
        before = after
    finally:
        for norm, (momentum, trainable), (mean, variance) in zip(
            norms, settings, before
        ):
            norm.momentum, norm.trainable = momentum, trainable
            norm.moving_mean.assign(mean)
            norm.moving_variance.assign(variance)


def _statistics(norm):
    statistics = (norm.moving_mean, norm.moving_variance)
    return [np.asarray(value).copy() for value in statistics]


def _raw_moments(norm):
    mean, variance = (x.astype(float) for x in _statistics(norm))
    return mean, variance + mean**2


def _add(sums, seen):
    return [(a + c, b + d) for (a, b), (c, d) in zip(sums, seen)]


def _pooled(total, count):
    mean, square = total[0] / count, total[1] / count
    return mean, np.maximum(square - mean**2, 0.0)

"""recalibrate: BatchNormalization statistics of a compressed model."""

import keras
import numpy as np
from keras import layers
from keras import ops

from keras_df.calibration import take_batches


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
        ValueError: If `data` is empty or holds values that are not finite.

    Example:

    ```python
    small = keras_df.compress(model, plan)
    keras_df.recalibrate(small, train, steps=50)
    ```
    """
    norms = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, layers.BatchNormalization)
    ]
    if not norms:
        return
    settings = [(norm.momentum, norm.trainable) for norm in norms]
    before = [_statistics(norm) for norm in norms]
    try:
        for norm in norms:
            # The moving statistics become those of the last batch.
            norm.trainable, norm.momentum = True, 0.0
        sums = None
        batches = take_batches(data, steps)
        for batch in batches:
            batch = keras.tree.map_structure(ops.convert_to_tensor, batch)
            model(batch, training=True)
            seen = [_raw_moments(norm) for norm in norms]
            sums = seen if sums is None else _add(sums, seen)
        after = [_pooled(total, len(batches)) for total in sums]
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

"""SearchRecorder: the curves of a search, step by step."""

import keras
import numpy as np


@keras.saving.register_keras_serializable(package="keras_df")
class SearchRecorder(keras.callbacks.Callback):
    """Records the metrics of a search while it runs.

    `fit` returns one value per epoch; many searches have only one epoch.
    Like every value that Keras shows during an epoch, the loss is the mean
    since the epoch began; the budget, masks and ranks are those of the step.

    Args:
        every: Number of steps between two records.

    Attributes:
        history: Dict from `"step"` and the names of the metrics to lists of
            numbers of equal length. Metrics that are no single number are
            left out.

    Raises:
        ValueError: If `every` is not a positive integer.

    Example:

    ```python
    recorder = keras_df.report.SearchRecorder()
    search.fit(train, callbacks=[recorder])
    outcome = keras_df.report.Outcome(history=recorder.history)
    ```
    """

    def __init__(self, every: int = 1):
        super().__init__()
        if type(every) is not int or every < 1:
            raise ValueError(
                f"`every` must be a positive integer. Received: every={every!r}"
            )
        self.every = every
        self.history = {}
        self._steps = 0

    def get_config(self):
        return {"every": self.every}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def on_train_begin(self, logs=None):
        self.history = {}
        self._steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1
        # A resumed search passes by the steps that it has done.
        if not logs or (self._steps - 1) % self.every:
            return
        values = {"step": self._steps, **logs}
        for name, value in values.items():
            if np.ndim(value) == 0:  # Some metrics have a value per class.
                self.history.setdefault(name, []).append(value)

"""Interval: keeps what a search trains between two numbers."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_df")
class Interval(keras.constraints.Constraint):
    """Constrains every value of a weight to an interval.

    Args:
        least: Float, the smallest value.
        most: Float, the largest value.
    """

    def __init__(self, least, most):
        self.least = least
        self.most = most

    def __call__(self, w):
        return ops.clip(w, self.least, self.most)

    def get_config(self):
        return {"least": self.least, "most": self.most}

"""A metric for quantities that follow a schedule."""

import keras
from keras import ops


class Latest(keras.metrics.Metric):
    """The value at the latest step, not a mean over the epoch."""

    def __init__(self, name):
        super().__init__(name=name)
        # The same on all replicas; Keras would add them up.
        self.value = self.add_variable(
            shape=(), initializer="zeros", aggregation="only_first_replica"
        )

    def show(self, value):
        """Sets the value."""
        self.value.assign(value)

    def update_state(self, *args, **kwargs):
        """Does nothing: targets and predictions do not decide the value.

        A training step of one's own may update all metrics with them.
        """

    def result(self):
        return ops.convert_to_tensor(self.value)

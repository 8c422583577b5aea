"""Where a search stands, and what its annealed quantities are there."""

import keras
from keras import ops


class Schedule(keras.layers.Layer):
    """Counts steps and interpolates between a start and an end.

    The step is a weight, so a search that is saved and resumed continues
    where it stood.

    Args:
        config: `SearchConfig`.
    """

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.step = self.add_weight(
            shape=(),
            initializer="zeros",
            trainable=False,
            name="step",
            aggregation="only_first_replica",
        )
        self.horizon = self.add_weight(
            shape=(), initializer="ones", trainable=False, name="horizon"
        )
        self.built = True

    def advance(self):
        """Counts one training step."""
        self.step.assign(self.step + 1.0)

    def progress(self):
        """Returns the share of the search that is done, in `[0, 1]`."""
        return ops.minimum(self.step / self.horizon, 1.0)

    def mask_steepness(self):
        """The paper's `mu_i`: from `mu_0` to `alpha`, linearly (Eq. 8)."""
        return self._between(*self.config.mask_steepness)

    def rank_steepness(self):
        """`C` in `tau = C / sigma_1`, linearly from its start to its end."""
        return self._between(*self.config.rank_steepness)

    def target(self, start, goal):
        """The budget asked for at this step, falling linearly, then flat."""
        fallen = ops.minimum(self.progress() / self.config.ramp, 1.0)
        return start + (goal - start) * fallen

    def _between(self, start, end):
        return start + (end - start) * self.progress()

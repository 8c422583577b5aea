"""Where a search stands, and what its annealed quantities are there."""

import keras
from keras import ops

from keras_df.search.replicas import add_state


class Schedule(keras.layers.Layer):
    """Counts steps and interpolates between a start and an end.

    The step is a weight, and so is the epoch: a search that is saved and
    resumed continues where it stood.

    Args:
        config: `SearchConfig`.
    """

    def __init__(self, config, **kwargs):
        # Steps are counted: half precision knows few whole numbers.
        super().__init__(dtype="float32", **kwargs)
        self.config = config
        self.step = add_state(self, "step", ())
        self.horizon = add_state(self, "horizon", (), "ones")
        # The epoch of `fit`, and the step at which it began.
        self.epoch = add_state(self, "epoch", ())
        self.epoch_start = add_state(self, "epoch_start", ())
        self.built = True

    def advance(self):
        """Counts one training step."""
        self.step.assign(self.step + 1.0)

    def begin_epoch(self, epoch, done=0):
        """Remembers where an epoch of `fit` began.

        Args:
            epoch: Integer, the epoch's index.
            done: Number of its steps that were counted earlier.
        """
        self.epoch.assign(float(epoch))
        self.epoch_start.assign(float(self.count() - done))

    def position(self, steps_per_epoch=None):
        """Returns the epoch, and how many of its steps are done."""
        epoch = int(ops.convert_to_numpy(self.epoch))
        done = self.count() - int(ops.convert_to_numpy(self.epoch_start))
        if steps_per_epoch and done >= steps_per_epoch:
            return epoch + 1, 0
        return epoch, done

    def count(self):
        """Returns the number of steps done, an integer."""
        return int(ops.convert_to_numpy(self.step))

    def is_finished(self):
        """Returns whether all steps of the schedule are done."""
        return self.count() >= float(ops.convert_to_numpy(self.horizon))

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

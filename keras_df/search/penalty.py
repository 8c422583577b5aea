"""The distance to the budget, as a term of the loss."""

import keras
from keras import ops

from keras_df.search.replicas import add_state
from keras_df.search.replicas import replica_count
from keras_df.search.replicas import replica_id

ROUNDING = 1e-6
"""Distance from the budget, as a share, that is no distance."""
NEWEST = 0.1
"""Weight of the newest loss in the running mean."""
SMALLEST_LOSS = 1e-4
"""A network without a loss still has to get smaller."""


class Penalty(keras.layers.Layer):
    """Weighs the distance to the budget (second term of Eq. 7).

    The weight is a multiple of the loss, of its running mean: what a search
    finds does not depend on what its loss is multiplied by. In the paper it
    is a constant, lambda, which suits cross-entropies; so it is in a training
    loop of one's own, in which nothing calls `compute_loss`.

    Args:
        config: `SearchConfig`.

    Attributes:
        unit: Variable of shape `()`, the running mean of the loss.
    """

    def __init__(self, config, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self._weight = config.penalty
        self._is_relative = config.penalty_unit == "loss"
        # Replicas see different samples, and search the same.
        self.unit = add_state(self, "unit", (), "ones", aggregation="mean")
        self._latest = {}
        self.built = True

    def call(self, distance):
        """Returns the term of the loss for a distance.

        Args:
            distance: Scalar tensor, how much the cost misses its target by,
                as a share of the original cost.
        """
        # The search starts on target, where rounding would decide on which
        # side: compilers and devices would then search differently.
        penalty = self._weight * ops.relu(distance - ROUNDING)
        if self._is_relative:
            penalty = penalty * ops.maximum(self.unit.value, SMALLEST_LOSS)
        self._latest[replica_id()] = penalty
        return penalty

    def own(self, losses):
        """Losses without the penalties of other replicas."""
        latest = self._latest.get(replica_id())
        every = {id(penalty) for penalty in self._latest.values()}
        return [x for x in losses if x is latest or id(x) not in every]

    def observe(self, loss, losses, step):
        """Takes a loss into the running mean.

        Args:
            loss: Scalar tensor, the sum of `losses` and of the compiled loss,
                divided by the number of replicas.
            losses: List of what `add_loss` has added to it. Without the
                penalty in it, the loss is not of a training step.
            step: Scalar tensor, how many steps have been done, this one too.
        """
        latest = self._latest.get(replica_id())
        if not any(x is latest for x in losses):
            return
        found = ops.cast(loss, "float32") * replica_count() - latest
        found = ops.abs(ops.stop_gradient(found))
        share = ops.maximum(1.0 / step, NEWEST)
        self.unit.assign(self.unit.value + share * (found - self.unit.value))

"""Guard: keeps the last state of a search that was finite."""

import keras
import numpy as np
from keras import ops


class Guard(keras.callbacks.Callback):
    """Notices that a search is no longer finite, and brings it back.

    A loss that is NaN makes the mask logits and thresholds NaN, and every
    plan with them. They are small, so a copy of them is cheap. To look is to
    wait for the device, so not every step does.
    """

    async_safe = True

    def on_train_begin(self, logs=None):
        self._saved = {}
        self._step = 0
        self._refresh_steps = self.model.config.refresh_steps

    def on_epoch_begin(self, epoch, logs=None):
        self._period = None

    # Not at the end of a batch: Keras may run that in another thread.
    def on_train_batch_begin(self, batch, logs=None):
        period = batch // self._refresh_steps
        if period != self._period:
            self.check()
        self._period = period

    def on_epoch_end(self, epoch, logs=None):
        # The metrics may hold the validation's results by now.
        self.check((logs or {}).get("loss", []))

    def check(self, loss=None):
        """Saves the state if it is finite; otherwise goes back to the last.

        Args:
            loss: Number, the loss; by default that of the epoch so far.

        Raises:
            FloatingPointError: If the loss or the state is not finite.
        """
        if loss is None:
            metrics = self.model.metrics
            loss = [x.result() for x in metrics if x.name == "loss"]
        state = {id(v): _array(v) for v in self._state()}
        watched = [*state.values(), _arrays(loss)]
        if all(np.isfinite(value).all() for value in watched):
            self._saved = state
            self._step = self._now()
            return
        if not self._saved:
            return  # It was restored so, and is refused by the search.
        found = self._now()
        for variable in self._state():
            # An optimizer may have made its own since.
            before = self._saved.get(id(variable), np.zeros(variable.shape))
            variable.assign(before)
        raise FloatingPointError(
            "The loss or a mask became NaN or infinite in one of the steps "
            f"{self._step + 1} to {found} of the search. Masks, thresholds and "
            f"optimizer are back at step {self._step}, where they were finite: "
            "`plan()` and `save()` use that state. Look for NaN or infinite "
            "values in the data and targets of these steps; if there are "
            "none, lower the learning rate or clip gradients, as "
            "`keras.optimizers.Adam(1e-3, clipnorm=1.0)`, and in float16 "
            "compute in bfloat16 instead."
        )

    def _state(self):
        """What training changes, except for large things that it freezes."""
        search = self.model
        yield from (search.logits, search.thresholds)
        yield from (search.shares, search.settled)
        yield from (search.schedule.step, search.penalty.unit)
        if search.optimizer is not None:
            yield from search.optimizer.variables
        for layer in search.network._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                yield from (layer.moving_mean, layer.moving_variance)

    def _now(self):
        return int(_array(self.model.schedule.step))


def _array(value):
    return np.array(ops.convert_to_numpy(value))


def _arrays(value):
    parts = [_array(part).ravel() for part in keras.tree.flatten(value)]
    return np.concatenate([np.empty(0), *parts])

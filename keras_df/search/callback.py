"""DFCallback: drives the schedule of a search."""

import keras

from keras_df.calibration import is_of_unknown_length
from keras_df.checks import check_positive_integer
from keras_df.search.guard import Guard

UNKNOWN_LENGTH = (
    "The data set does not say how many batches it has. Pass "
    "`steps_per_epoch` to `fit`, or the total number of steps to "
    "`DFCallback(steps=...)`."
)


@keras.saving.register_keras_serializable(package="keras_df")
class DFCallback(keras.callbacks.Callback):
    """Drives the schedule of a `SearchModel` during `fit`.

    It tells the search how many steps there will be; masks steepen and the
    budget falls over them. Every few steps it renews singular vectors whose
    masks have moved. `SearchModel.fit` adds a callback if none is given, and
    runs it after all others: it takes up what they restored.

    The loss rises while the budget falls, by design. Callbacks that watch it,
    such as `keras.callbacks.EarlyStopping` or `ReduceLROnPlateau`, should
    begin when the schedule has ended (`start_from_epoch`), and not bring back
    the best weights: the best are those of the start, with nothing removed.
    A plan of a search that was stopped early meets its budget; its notes say
    that more steps would be better.

    Args:
        steps: Number of training steps over which to anneal, counted from the
            search's first. By default as many as `epochs` has, with those
            before `initial_epoch`; needed where `fit` cannot know how many
            batches an epoch has, and where several calls of `fit` make up
            one search.

    Raises:
        ValueError: If `steps` is not a positive integer.

    Example:

    ```python
    search.fit(train, epochs=2, callbacks=[keras_df.DFCallback()])
    ```
    """

    async_safe = True

    def __init__(self, steps: int | None = None):
        super().__init__()
        if steps is not None:
            steps = check_positive_integer("steps", steps)
        self.steps = steps

    def get_config(self):
        return {"steps": self.steps}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def on_train_begin(self, logs=None):
        if not hasattr(self.model, "schedule"):
            raise ValueError(
                "`DFCallback` drives a `keras_df.SearchModel`. Received: a "
                f"model of type {type(self.model)}"
            )
        steps = self.steps
        if steps is None:
            per_epoch, epochs = self.params["steps"], self.params["epochs"]
            if per_epoch is None:
                raise ValueError(UNKNOWN_LENGTH)
            steps = per_epoch * epochs
        schedule = self.model.schedule
        schedule.horizon.assign(float(steps))
        self._done = self.model.resume(self.params["steps"])
        self._refresh_steps = self.model.config.refresh_steps
        self._period = (schedule.count() - 1) // self._refresh_steps

    def on_epoch_begin(self, epoch, logs=None):
        schedule = self.model.schedule
        schedule.begin_epoch(epoch, self._done)
        self._first = schedule.count() - self._done

    # Not at the end of a batch: Keras may run that in another thread.
    # `self.model` copies all variables on JAX, so it is used only if needed.
    def on_train_batch_begin(self, batch, logs=None):
        if batch < self._done:
            return
        period = (self._first + batch) // self._refresh_steps
        if period != self._period:
            self.model.refresh()
        self._period = period

    def on_epoch_end(self, epoch, logs=None):
        self._done = 0

    def on_train_end(self, logs=None):
        # A search that goes on later must not depend on where it paused.
        if self.model.schedule.is_finished():
            self.model.refresh()


def with_own_callbacks(callbacks, guard, search):
    """Callbacks behind a `Guard`.

    A `DFCallback` comes last: it takes up what others have restored.
    """
    is_list = isinstance(callbacks, keras.callbacks.CallbackList)
    known = callbacks.callbacks if is_list else keras.tree.flatten(callbacks)
    known = [x for x in known if not isinstance(x, (Guard, type(None)))]
    own = [x for x in known if isinstance(x, DFCallback)] or [DFCallback()]
    others = [x for x in known if not isinstance(x, DFCallback)]
    known = [guard, *others, *own]
    if not is_list:
        return known
    for callback in (known[0], *own):
        callback.set_model(search)
        callback.set_params(callbacks.params)
    callbacks.callbacks = known
    return callbacks


def check_length(callbacks, arguments):
    """Checks, before data is read, that it is known how long a search is.

    Args:
        callbacks: What `with_own_callbacks` returned.
        arguments: Dict of the arguments of `fit`.

    Raises:
        ValueError: If neither the data nor an argument says so.
    """
    known = getattr(callbacks, "callbacks", callbacks)
    params = getattr(callbacks, "params", None) or {}
    if not (
        arguments.get("steps_per_epoch")
        or params.get("steps")
        or any(isinstance(x, DFCallback) and x.steps for x in known)
        or not is_of_unknown_length(arguments.get("x"))
    ):
        raise ValueError(UNKNOWN_LENGTH)

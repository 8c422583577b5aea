"""Continuing a search that was killed: at its step, from whole files."""

import contextlib
import json
import os

import keras

from keras_df.calibration import batch_count
from keras_df.files import replacing

_WEIGHTS = "latest.weights.h5"
_METADATA = "training_metadata.json"
_SEED = "seed_"


class ResumableModel(keras.Model):
    """A model whose `fit` goes on at the step where it was killed.

    `keras.callbacks.BackupAndRestore` restores weights and the optimizer, and
    begins the epoch anew. Here the batches that the epoch has had are read
    and not trained on again, so that the outcome is the same as if nothing
    had happened, for data that comes in the same order again.

    A subclass has a `Schedule` as its attribute `schedule`, begins `fit` with
    `expect_backup`, and has a callback that calls `resume` when the others
    have begun. Where it sets `guard`, that is asked before anything is saved.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.guard = None
        self._is_restored = False
        self._to_read_first = 0
        self._to_skip = 0

    def save(self, filepath, overwrite=True, zipped=None, **kwargs):
        """Saves as `keras.Model.save`; a file is replaced once complete."""
        self._check_finite()
        with _whole(filepath, overwrite) as path:
            super().save(path, overwrite, zipped, **kwargs)

    def save_weights(self, filepath, overwrite=True, max_shard_size=None):
        """Saves as `keras.Model.save_weights`; a file is replaced once
        complete.
        """
        self._check_finite()
        with _whole(filepath, overwrite) as path:
            super().save_weights(path, overwrite, max_shard_size)

    def _check_finite(self):
        """Raises before a good file is replaced by one of NaN."""
        if self.guard is not None:
            # The metrics may hold the validation's results by now.
            self.guard.check(loss=[])

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        super().load_weights(filepath, skip_mismatch, **kwargs)
        self._is_restored = True

    def save_own_variables(self, store):
        super().save_own_variables(store)
        # Keras does not save where random numbers, as of Dropout, stand.
        for index, state in enumerate(self._seed_states()):
            store[f"{_SEED}{index}"] = state

    def load_own_variables(self, store):
        own = {key: store[key] for key in store.keys()}  # noqa: SIM118
        for index, state in enumerate(self._seed_states()):
            state.assign(own.pop(f"{_SEED}{index}"))
        super().load_own_variables(own)

    def _seed_states(self):
        weights = {id(variable) for variable in self.weights}
        return [x for x in self.variables if id(x) not in weights]

    def expect_backup(self, arguments):
        """Prepares for a callback that may restore an earlier `fit`.

        Args:
            arguments: Dict of the arguments of `fit`.

        Returns:
            Whether there is something to restore.
        """
        folders = _backup_folders(arguments.get("callbacks"))
        for folder in folders:
            _remove_if_truncated(os.path.join(folder, _METADATA))
        self._is_restored = False
        self._initial_epoch = None
        self._to_read_first = self._to_skip = 0
        self._stream = _Stream(arguments)
        return any(os.path.exists(os.path.join(x, _WEIGHTS)) for x in folders)

    def resume(self, steps_per_epoch):
        """Goes to the epoch that restored weights were saved in.

        What the weights say counts. The epoch that `BackupAndRestore` writes
        beside them may be an older one.

        Args:
            steps_per_epoch: Number of batches in an epoch, or None.

        Returns:
            Number of batches of the first epoch that are done already.
        """
        if not self._is_restored:
            self._initial_epoch = None
            return 0
        epoch, done = self.schedule.position(steps_per_epoch)
        if epoch < (self._initial_epoch or 0):
            epoch, done = self._initial_epoch, 0
        self._initial_epoch = epoch
        self._to_read_first = self._stream.read_before(epoch)
        self._to_skip = done
        return done

    def make_train_function(self, force=False):
        if self.train_function is not None and not force:
            return
        super().make_train_function(force)
        train_function = self.train_function

        def train_what_is_left(*state_and_iterator):
            *state, iterator = state_and_iterator
            while self._to_read_first:
                next(iterator)
                self._to_read_first -= 1
            if not self._to_skip:
                return train_function(*state_and_iterator)
            for _ in range(min(self.steps_per_execution, self._to_skip)):
                next(iterator)
                self._to_skip -= 1
            return ({}, *state) if state else {}  # JAX passes a state.

        self.train_function = train_what_is_left


class _Stream:
    """How much of its data an interrupted `fit` had read at an epoch.

    With `steps_per_epoch`, epochs are stretches of one stream; otherwise
    every epoch reads the data from its beginning.
    """

    def __init__(self, arguments):
        self._steps = arguments.get("steps_per_epoch")
        self._first_epoch = arguments.get("initial_epoch") or 0
        self._length = batch_count(
            arguments.get("x"),
            arguments.get("batch_size"),
            arguments.get("validation_split"),
        )

    def read_before(self, epoch):
        if not self._steps:
            return 0
        count = self._steps * (epoch - self._first_epoch)
        return count % self._length if self._length else count


def _backup_folders(callbacks):
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = callbacks.callbacks
    return [
        callback.backup_dir
        for callback in keras.tree.flatten(callbacks)
        if isinstance(callback, keras.callbacks.BackupAndRestore)
    ]


def _remove_if_truncated(path):
    """Removes what Keras was killed in the middle of writing."""
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as file:
        try:
            json.load(file)
        except ValueError:
            os.remove(path)


@contextlib.contextmanager
def _whole(filepath, overwrite):
    """A path to write to; local files are replaced once complete."""
    path = os.fspath(filepath) if hasattr(filepath, "__fspath__") else filepath
    is_file = isinstance(path, str) and "://" not in path
    is_file = is_file and path.endswith((".keras", ".weights.h5"))
    # Keras asks before it overwrites, and takes a folder for unzipped files.
    asks = is_file and not overwrite and os.path.exists(path)
    if not is_file or asks or os.path.isdir(path):
        yield filepath
        return
    with replacing(path) as new:
        yield new

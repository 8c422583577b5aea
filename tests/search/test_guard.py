import keras
import numpy as np
import pytest
from search_helpers import compiled
from search_helpers import separable_data
from search_helpers import small_network
from search_helpers import values

import keras_df as kdf
from keras_df.search.guard import Guard


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def search_of(budget=0.6, **options):
    config = kdf.SearchConfig(refresh_steps=5, **options)
    model = small_network()
    return compiled(kdf.SearchModel(model, kdf.MACs(budget), config=config))


class Spoilt(keras.utils.PyDataset):
    """Batches of 8 of which one, and all after it, hold NaN."""

    def __init__(self, step):
        super().__init__()
        self._x, self._y = separable_data(192)
        self._x[8 * step :] = np.nan

    def __len__(self):
        return 24

    def __getitem__(self, index):
        batch = slice(8 * index, 8 * index + 8)
        return self._x[batch], self._y[batch]


class Recorder(keras.callbacks.Callback):
    """Keeps what is trained, by the number of steps done."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.model.synchronize()
        self.seen.append(values(self.model.trainable_variables))


def stopped(search, x, y=None, **options):
    recorder = Recorder()
    callbacks = [recorder, *options.pop("callbacks", [])]
    with pytest.raises(FloatingPointError) as caught:
        search.fit(
            x,
            y,
            batch_size=None if y is None else 8,
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
            **options,
        )
    return str(caught.value), recorder.seen


def assert_back_at(search, step, seen):
    for old, new in zip(seen[step], search.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, array(new))
    assert float(array(search.schedule.step)) == step
    assert int(array(search.optimizer.iterations)) == step
    for value in values([*search.variables, *search.optimizer.variables]):
        assert np.isfinite(value).all()


def test_a_search_stops_in_its_last_finite_state():
    search = search_of()
    message, seen = stopped(search, Spoilt(step=13))
    assert "steps 11 to 15" in message
    assert "back at step 10" in message
    assert_back_at(search, 10, seen)
    plan = search.plan()
    assert plan.costs["macs"][1] <= 0.6 * plan.costs["macs"][0]


def test_steps_behind_the_last_refresh_are_looked_at_too():
    search = search_of()
    message, seen = stopped(search, Spoilt(step=22))
    assert "steps 21 to 24" in message
    assert_back_at(search, 20, seen)


def test_the_loss_of_training_counts_not_that_of_validation():
    x, y = separable_data(192)
    clean = x.copy()
    search = search_of()
    bad = np.full_like(x[:8], np.nan)
    search.fit(clean, y, batch_size=32, verbose=0, validation_data=(bad, y[:8]))
    assert np.isfinite(array(search.logits)).all()
    assert np.isnan(search.history.history["val_loss"]).all()


def test_a_search_goes_on_once_the_data_is_clean():
    search = search_of()
    stopped(search, Spoilt(step=13))
    x, y = separable_data(192)
    options = {"callbacks": [kdf.DFCallback(steps=34)]}
    search.fit(x, y, batch_size=8, verbose=0, **options)
    assert float(array(search.schedule.step)) == 34
    assert array(search.shares)[0] < 0.7


def test_nothing_is_saved_of_a_search_that_is_not_finite(tmp_path):
    path = str(tmp_path / "{epoch}.weights.h5")
    saving = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    stopped(search_of(), Spoilt(step=22), callbacks=[saving])
    assert not list(tmp_path.iterdir())


def test_a_backup_is_not_replaced_by_one_that_is_not_finite(tmp_path):
    """Files are saved at the end of a step, before the next look."""

    def backup():
        return keras.callbacks.BackupAndRestore(
            str(tmp_path), save_freq=7, delete_checkpoint=False
        )

    message, _ = stopped(search_of(), Spoilt(step=13), callbacks=[backup()])
    assert "steps 11 to 14" in message and "back at step 10" in message
    search = search_of()
    clean = Spoilt(step=24)
    search.fit(clean, shuffle=False, verbose=0, callbacks=[backup()])
    assert float(array(search.schedule.step)) == 24
    assert np.isfinite(array(search.logits)).all()


def test_a_loss_that_is_nan_from_the_start():
    x, y = separable_data(64)
    search = search_of()
    search.compile("adam", "mse")
    message, seen = stopped(search, x, np.full((64, 3), np.nan))
    assert "steps 1 to 5" in message
    assert_back_at(search, 0, seen)


def scaled_search():
    """Its optimizer skips steps that are not finite, so masks stay finite."""
    search = search_of(metric="weights")
    search.compile(
        keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(2.5e-2)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return search


def test_a_scaled_loss_that_is_nan():
    search = scaled_search()
    message, _ = stopped(search, Spoilt(step=7))
    assert "steps 6 to 10" in message


def test_a_scaled_loss_that_is_nan_when_a_file_is_saved(tmp_path):
    search = scaled_search()
    path = str(tmp_path / "{batch}.weights.h5")
    saving = keras.callbacks.ModelCheckpoint(
        path, save_weights_only=True, save_freq=7
    )
    message, seen = stopped(search, Spoilt(step=13), callbacks=[saving])
    assert "back at step 10" in message
    assert_back_at(search, 10, seen)
    assert [x.name for x in tmp_path.iterdir()] == ["7.weights.h5"]


def test_a_search_is_looked_at_no_more_often_than_refreshed(monkeypatch):
    calls, check = [], Guard.check

    def counted(self, *args):
        calls.append(args)
        return check(self, *args)

    monkeypatch.setattr(Guard, "check", counted)
    x, y = separable_data(192)
    search_of().fit(x, y, batch_size=8, epochs=2, verbose=0)
    assert len(calls) == 2 * (5 + 1)  # 24 steps by fives, and the epoch's end.


def test_masks_that_are_not_finite_are_named():
    """As a training loop of one's own may leave them."""
    search = search_of()
    search.logits.assign(np.full(search.logits.shape, np.nan))
    for call in (search.plan, search.refresh):
        with pytest.raises(FloatingPointError, match="Mask logits"):
            call()


@pytest.mark.parametrize("spectra", ["cached", "exact"])
def test_a_layer_whose_masks_all_die(spectra):
    """Its search stays finite, and its plan keeps a filter."""
    search = search_of(spectra=spectra)
    graph = search._graph
    units = graph.units[graph.nodes["inner"].kernel.outputs[1]]
    search.logits.assign(np.where(np.isin(search._free, units), 0.0, 1.0))
    search.thresholds.assign(np.ones(search.thresholds.shape))
    x, y = separable_data(64)
    search.fit(x, y, batch_size=8, verbose=0)
    assert np.isfinite(array(search.logits)).all()
    search.logits.assign(np.zeros(search.logits.shape))
    plan = search.plan()
    assert all(layer.kept for layer in plan.layers.values())
    assert plan.costs["macs"][1] <= 0.6 * plan.costs["macs"][0]

"""Searches that are killed or saved midway, against those that are not."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import keras
import numpy as np
import pytest
import search_process
from search_helpers import separable_data
from search_process import BATCH
from search_process import EPOCHS
from search_process import STEPS
from search_process import new_search
from search_process import outcome
from search_process import run

import keras_df as kdf
from keras_df.search import model as search_model

EPOCH_STEPS = STEPS // EPOCHS


class Interruption(Exception):
    pass


class InterruptAt(keras.callbacks.Callback):
    """Raises in place of a step, counted from the start of this `fit`."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_begin(self, batch, logs=None):
        if self.left == 0:
            raise Interruption
        self.left -= 1


def assert_equal(actual, expected):
    assert set(actual) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(
            actual[name], value, rtol=0, atol=1e-6, err_msg=name
        )


class Uninterrupted(NamedTuple):
    outcome: dict
    plan: kdf.CompressionPlan
    folder: pathlib.Path


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A search that nothing happened to, and checkpoints of its epochs."""
    folder = tmp_path_factory.mktemp("checkpoints")
    callbacks = [
        keras.callbacks.ModelCheckpoint(str(folder / name), save_freq=save_freq)
        for name, save_freq in (
            ("{epoch}.keras", "epoch"),
            ("{epoch}_{batch}.keras", 8),
        )
    ]
    search = run(new_search(), callbacks)
    moved = outcome(search)
    assert moved["logits"].min() < 0.9 and moved["thresholds"].max() > 0.1
    return Uninterrupted(moved, search.plan(), folder)


@pytest.fixture(scope="module")
def ninth_step(tmp_path_factory):
    """A search that was interrupted after nine steps: its backup."""
    folder = tmp_path_factory.mktemp("backup")
    interrupted(arrays, folder, 9)
    return folder


@pytest.fixture
def backup(ninth_step, tmp_path):
    return shutil.copytree(ninth_step, tmp_path / "backup")


def start(folder, how):
    return subprocess.Popen(
        [sys.executable, search_process.__file__, str(folder), str(how)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def begun(folder):
    path = folder / "steps.txt"
    return len(path.read_text().splitlines()) if path.exists() else 0


def killed(folder, how, steps, delay):
    """Starts a search and kills it some steps later; False if it was done."""
    process = start(folder, how)
    target = begun(folder) + steps
    while process.poll() is None and begun(folder) < target:
        time.sleep(0.001)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    error = process.communicate()[1]
    assert process.returncode in (0, -signal.SIGKILL), error
    return process.returncode != 0


def finish(folder, how):
    process = start(folder, how)
    error = process.communicate()[1]
    assert process.returncode == 0, error
    with np.load(folder / "result.npz") as result:
        return dict(result), kdf.CompressionPlan.load(folder / "plan.json")


def test_a_search_survives_two_kills(uninterrupted, tmp_path):
    assert killed(tmp_path, 2, steps=10, delay=0.01)
    assert killed(tmp_path, 2, steps=13, delay=0.003)
    result, plan = finish(tmp_path, 2)
    assert_equal(result, uninterrupted.outcome)
    assert plan == uninterrupted.plan
    assert not (tmp_path / "backup").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", [1, 3, 4, "epoch"])
def test_a_search_survives_kills_at_random_moments(
    how, uninterrupted, tmp_path
):
    """Twenty in all; a search that is through starts again."""
    seed = int(time.time())
    rng = np.random.default_rng(seed)
    kills, searches = 0, 0
    while kills < 5:
        folder = tmp_path / str(searches)
        folder.mkdir()
        searches += 1
        while kills < 5 and killed(
            folder, how, rng.integers(1, STEPS), rng.uniform(0, 0.1)
        ):
            kills += 1
        result, plan = finish(folder, how)
        assert_equal(result, uninterrupted.outcome)
        assert plan == uninterrupted.plan, f"seed {seed}"


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return EPOCH_STEPS

    def __getitem__(self, index):
        x, y = separable_data()
        at = slice(index * BATCH, (index + 1) * BATCH)
        return x[at], y[at]


def generate():
    while True:
        yield from (Batches()[index] for index in range(EPOCH_STEPS))


def stream():
    """Endless, in another order in every pass."""
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices(separable_data()).repeat()
    data = data.shuffle(96, seed=1, reshuffle_each_iteration=False)
    return data.batch(BATCH)


def arrays():
    return separable_data()


OPTIONS = {
    arrays: {"batch_size": BATCH},
    Batches: {},
    generate: {"steps_per_epoch": EPOCH_STEPS},
    stream: {"steps_per_epoch": 4},
}


def fit(make, search, callbacks=(), **options):
    data = make()
    data = data if isinstance(data, tuple) else (data,)
    options = {"epochs": EPOCHS, **OPTIONS[make], **options}
    search.fit(
        *data, shuffle=False, verbose=0, callbacks=list(callbacks), **options
    )
    return search


def backup_at(folder, save_freq=1):
    return keras.callbacks.BackupAndRestore(str(folder), save_freq)


def interrupted(make, folder, *steps, save_freq=1, **options):
    """Searches anew in the same folder after each interruption."""
    for step in steps:
        with pytest.raises(Interruption):
            callbacks = [InterruptAt(step), backup_at(folder, save_freq)]
            fit(make, new_search(), callbacks, **options)


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")
@pytest.mark.parametrize("make", [Batches, generate])
def test_data_goes_on_where_it_was(make, uninterrupted, backup):
    search = fit(make, new_search(), [backup_at(backup)])
    assert_equal(outcome(search), uninterrupted.outcome)


def test_a_stream_goes_on_where_it_was(tmp_path):
    whole = fit(stream, new_search())
    interrupted(stream, tmp_path, 9)
    search = fit(stream, new_search(), [backup_at(tmp_path)])
    assert_equal(outcome(search), outcome(whole))


def test_a_backup_at_the_last_step_of_an_epoch(uninterrupted, tmp_path):
    interrupted(arrays, tmp_path, EPOCH_STEPS, save_freq=EPOCH_STEPS)
    history = keras.callbacks.History()
    search = fit(arrays, new_search(), [backup_at(tmp_path), history])
    assert_equal(outcome(search), uninterrupted.outcome)
    assert history.epoch == [1, 2, 3]


def test_several_steps_per_execution(uninterrupted, tmp_path):
    with pytest.raises(Interruption):
        search = new_search(steps_per_execution=2)
        run(search, [InterruptAt(5), backup_at(tmp_path)])
    search = new_search(steps_per_execution=2)
    run(search, [backup_at(tmp_path)])
    assert search.schedule.count() == STEPS


def test_nothing_is_measured_again(uninterrupted, backup, monkeypatch):
    monkeypatch.setattr(search_model, "calibrate", None)
    (backup / "training_metadata.json").write_text('{"epo')  # Killed there.
    search = fit(arrays, new_search(), [backup_at(backup)])
    assert_equal(outcome(search), uninterrupted.outcome)


def test_a_backup_that_keras_was_removing_when_killed(uninterrupted, tmp_path):
    (tmp_path / "training_metadata.json").write_text(
        json.dumps({"epoch": EPOCHS, "batch": 0})
    )
    search = fit(arrays, new_search(), [backup_at(tmp_path)])
    assert_equal(outcome(search), uninterrupted.outcome)


def test_the_same_search_goes_on_after_an_error(uninterrupted, tmp_path):
    search = new_search()
    with pytest.raises(Interruption):
        fit(arrays, search, [InterruptAt(8), backup_at(tmp_path)])
    fit(arrays, search, [backup_at(tmp_path)])
    assert_equal(outcome(search), uninterrupted.outcome)


def test_a_second_fit_is_not_taken_for_a_restart(tmp_path):
    search = fit(arrays, new_search(), [backup_at(tmp_path)], epochs=2)
    history = fit(arrays, search, [backup_at(tmp_path)], epochs=1).history
    assert history.epoch == [0]
    assert search.schedule.count() == 3 * EPOCH_STEPS


def test_initial_epoch_continues_the_schedule(uninterrupted):
    horizon = kdf.DFCallback(steps=STEPS)
    search = run(new_search(), [horizon], epochs=2)
    run(search, initial_epoch=2)
    assert_equal(outcome(search), uninterrupted.outcome)


def test_a_saved_search_goes_on_in_another_process(uninterrupted, tmp_path):
    search = run(new_search(), [kdf.DFCallback(steps=STEPS)], epochs=2)
    search.save(tmp_path / "search.keras")
    result, plan = finish(tmp_path, "load")
    assert_equal(result, uninterrupted.outcome)
    assert plan == uninterrupted.plan


def test_a_checkpoint_goes_on(uninterrupted):
    search = keras.models.load_model(uninterrupted.folder / "2.keras")
    run(search, initial_epoch=2)
    assert_equal(outcome(search), uninterrupted.outcome)


def test_a_checkpoint_in_mid_epoch_goes_on_with_the_rest(uninterrupted):
    search = keras.models.load_model(uninterrupted.folder / "2_2.keras")
    assert search.schedule.position() == (1, 2)
    x, y = separable_data()
    x, y = x[2 * BATCH :], y[2 * BATCH :]
    horizon = kdf.DFCallback(steps=STEPS)
    search.fit(x, y, BATCH, shuffle=False, verbose=0, callbacks=[horizon])
    run(search, initial_epoch=2)
    assert_equal(outcome(search), uninterrupted.outcome)


@pytest.mark.parametrize("name", ["a.keras", "a.weights.h5"])
def test_a_file_is_replaced_once_complete(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.write_bytes(b"old")
    search = new_search()
    save = search.save if name == "a.keras" else search.save_weights
    with monkeypatch.context() as patch:
        patch.setattr(search.schedule, "save_own_variables", full_disk)
        with pytest.raises(OSError, match="No space left"):
            save(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [name]
    save(path)
    assert path.stat().st_size > 1000
    assert os.listdir(tmp_path) == [name]


def full_disk(store):
    raise OSError(28, "No space left on device")


def test_a_path_object_and_a_folder_are_taken(tmp_path):
    search = new_search()
    search.save(pathlib.Path(tmp_path / "a.keras"))
    search.save(tmp_path / "folder", zipped=False)
    assert (tmp_path / "folder" / "config.json").exists()

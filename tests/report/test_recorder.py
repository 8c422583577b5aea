import keras
import numpy as np
import pytest
from search_helpers import compiled
from search_helpers import separable_data
from search_helpers import small_network

import keras_df as kdf
from keras_df.report import SearchRecorder


def recorded(recorder, **options):
    search = compiled(kdf.SearchModel(small_network(), kdf.MACs(0.6)))
    x, y = separable_data()
    history = search.fit(
        x, y, batch_size=16, verbose=0, callbacks=[recorder], **options
    )
    return history.history, recorder.history


def test_every_step_is_recorded():
    epochs, steps = recorded(SearchRecorder(), epochs=2)
    assert steps["step"] == list(range(1, 13))
    assert set(steps) == {"step", *epochs}
    for name, values in epochs.items():
        # What Keras shows of an epoch is what its last step showed.
        assert steps[name][5::6] == pytest.approx(values)


def test_some_steps_are_recorded():
    _, steps = recorded(SearchRecorder(every=4), epochs=2)
    assert steps["step"] == [1, 5, 9]
    assert all(len(values) == 3 for values in steps.values())


def test_steps_that_a_resumed_search_passes_by_are_not_recorded():
    recorder = SearchRecorder()
    recorder.on_train_begin()
    for step in range(4):
        recorder.on_train_batch_end(step, {} if step < 2 else {"loss": 1.0})
    assert recorder.history == {"step": [3, 4], "loss": [1.0, 1.0]}


def test_values_per_class_are_left_out():
    recorder = SearchRecorder()
    recorder.on_train_begin()
    recorder.on_train_batch_end(0, {"loss": 1.0, "f1": np.array([0.5, 0.7])})
    assert recorder.history == {"step": [1], "loss": [1.0]}


def test_a_second_search_starts_anew():
    recorder = SearchRecorder()
    recorded(recorder, epochs=1)
    _, steps = recorded(recorder, epochs=1)
    assert steps["step"] == list(range(1, 7))


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_other_intervals_are_refused(every):
    with pytest.raises(ValueError, match="positive integer"):
        SearchRecorder(every=every)


def test_config_round_trip():
    callback = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(SearchRecorder(every=3))
    )
    assert callback.every == 3

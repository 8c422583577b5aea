import keras
import pytest
from search_helpers import compiled
from search_helpers import separable_data
from search_helpers import small_network

import keras_df as kdf


def number(variable):
    return float(keras.ops.convert_to_numpy(variable))


def fitted(callbacks, **options):
    search = compiled(kdf.SearchModel(small_network(), kdf.MACs(0.6)))
    x, y = separable_data()
    search.fit(x, y, batch_size=32, verbose=0, callbacks=callbacks, **options)
    return search


def test_the_horizon_is_all_steps_of_fit():
    search = fitted([kdf.DFCallback()], epochs=2)
    assert number(search.schedule.horizon) == 6
    assert number(search.schedule.step) == 6


def test_the_horizon_can_be_given():
    search = fitted([kdf.DFCallback(steps=50)])
    assert number(search.schedule.horizon) == 50


def test_a_missing_callback_is_added():
    search = fitted(None, epochs=3)
    assert number(search.schedule.horizon) == 9


def test_other_callbacks_stay():
    history = keras.callbacks.History()
    search = fitted([history])
    assert number(search.schedule.horizon) == 3
    assert len(history.history["macs"]) == 1


@pytest.mark.parametrize("steps", [0, -1, 2.5, "all"])
def test_bad_steps_are_refused(steps):
    with pytest.raises(ValueError, match="positive integer"):
        kdf.DFCallback(steps=steps)


def test_another_model_is_refused():
    model = compiled(small_network())
    x, y = separable_data(8)
    with pytest.raises(ValueError, match="SearchModel"):
        model.fit(x, y, verbose=0, callbacks=[kdf.DFCallback()])


def test_a_data_set_of_unknown_length_needs_steps():
    x, y = separable_data()

    def generate():
        for start in range(0, 96, 32):
            yield x[start : start + 32], y[start : start + 32]

    search = compiled(kdf.SearchModel(small_network(), kdf.MACs(0.6)))
    data = generate()
    with pytest.raises(ValueError, match="steps_per_epoch"):
        search.fit(data, verbose=0)
    # Nothing of it was read.
    search.fit(data, verbose=0, callbacks=[kdf.DFCallback(steps=3)])
    # TensorFlow counts the step that finds the data at its end, here and in
    # the optimizer.
    steps = number(search.schedule.step)
    assert steps == number(search.optimizer.iterations) >= 3


def test_a_list_of_callbacks_may_say_how_many_steps_there_are():
    x, y = separable_data()
    batches = ((x[i : i + 32], y[i : i + 32]) for i in range(0, 96, 32))
    search = compiled(kdf.SearchModel(small_network(), kdf.MACs(0.6)))
    callbacks = keras.callbacks.CallbackList(
        add_history=True, model=search, steps=3, epochs=1
    )
    search.fit(batches, verbose=0, callbacks=callbacks)
    assert number(search.schedule.horizon) == 3


def test_config_round_trip():
    callback = kdf.DFCallback(steps=7)
    assert kdf.DFCallback.from_config(callback.get_config()).steps == 7


@pytest.mark.parametrize("every, expected", [(1, 9), (2, 5), (10, 1)])
def test_singular_vectors_are_looked_at_every_few_steps(every, expected):
    """Three epochs of three steps, counted through."""
    config = kdf.SearchConfig(refresh_steps=every)
    search = compiled(
        kdf.SearchModel(small_network(), kdf.MACs(0.6), config=config)
    )
    seen = []
    refresh = search.relaxation.refresh
    search.relaxation.refresh = lambda *args: seen.append(refresh(*args))
    x, y = separable_data()
    search.fit(x, y, batch_size=32, epochs=3, verbose=0)
    # Once before the first step, and once when training ends.
    assert len(seen) == expected + 2


def test_a_search_ends_with_exact_kernels():
    search = fitted(None, epochs=3)
    assert (
        search.relaxation.refresh(
            keras.ops.convert_to_numpy(search._mask()), 0.011
        )
        == 0
    )

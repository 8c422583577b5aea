import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_df.calibration import flat_inputs
from keras_df.graph import lockstep
from keras_df.graph.lockstep import run_side_by_side


def images(samples):
    x = np.random.default_rng(samples).normal(size=(samples, 4, 4, 3))
    return x.astype("float32")


def shortcut_network():
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(5, 1, name="first")(inputs)
    y = layers.Conv2D(5, 1, name="second")(x)
    x = layers.Add(name="add")([x, y])
    return keras.Model(inputs, layers.Dropout(0.5, name="drop")(x))


def run(model, batches, change=lambda path, function: function):
    """Runs a model beside itself; what each operation read, by path."""
    seen = {}

    def visit(path, operation, original, changed):
        seen["/".join(path)] = [list(original), list(changed)]
        return original.run(operation), changed.run(change(path, operation))

    inputs = [flat_inputs(model, batch) for batch in batches]
    run_side_by_side(model, inputs, visit)
    return seen


def test_every_operation_reads_what_it_reads_in_the_model():
    model, batches = shortcut_network(), [images(2), images(3)]
    seen = run(model, batches)
    part = keras.Model(model.input, model.get_layer("add").input)
    for calls in seen["add"]:
        for ((found,), _), batch in zip(calls, batches, strict=True):
            expected = part(batch)
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_replacement_reads_what_replacements_before_it_write():
    model, batches = shortcut_network(), [images(2)]

    def change(path, operation):
        if path == ("first",):
            return lambda x, **kwargs: 2 * operation(x, **kwargs)
        return operation

    (original, changed) = run(model, batches, change)["second"]
    np.testing.assert_allclose(changed[0][0][0], 2 * original[0][0][0])


def test_it_runs_in_inference_mode():
    model = shortcut_network()
    (original, _) = run(model, [images(2)])["drop"]
    assert original[0][1]["training"] is False


def test_a_nested_model_is_entered():
    inner = keras.Sequential(
        [keras.Input((4, 4, 3)), layers.Conv2D(2, 1, name="conv")], name="inner"
    )
    inputs = keras.Input((4, 4, 3))
    seen = run(keras.Model(inputs, inner(inputs)), [images(2)])
    assert list(seen) == ["inner/conv"]


def test_operations_with_several_outputs_are_unpacked():
    inputs = keras.Input((4, 4, 4))
    first, second = ops.split(inputs, 2, axis=-1)
    model = keras.Model(inputs, layers.Add(name="sum")([second, first]))
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype("float32")
    (original, _) = run(model, [x])["sum"]
    np.testing.assert_array_equal(original[0][0][0][0], x[..., 2:])
    np.testing.assert_array_equal(original[0][0][0][1], x[..., :2])


@pytest.mark.parametrize("memory, samples", [(2**31, 8), (1, 1)])
def test_as_many_samples_are_used_as_fit(memory, samples, monkeypatch):
    monkeypatch.setattr(lockstep, "MEMORY", memory)
    (original, _) = run(shortcut_network(), [images(8)])["first"]
    assert original[0][0][0].shape[0] == samples


def test_the_peak_is_what_is_alive_at_once():
    """`first` is alive until `add` has read it, beside `second`."""
    rehearsal = lockstep._Rehearsal()
    inputs = rehearsal.value(ops.ones((1, 4, 4, 3)))
    lockstep.walk(shortcut_network(), [inputs], rehearsal.visit)
    wide = 4 * 4 * 5 * 4
    assert rehearsal.peak() == 3 * wide


@pytest.mark.parametrize("memory, samples", [(2**31, 8), (1, 1)])
def test_an_optional_input_may_be_missing(memory, samples, monkeypatch):
    class Sum(layers.Layer):
        def call(self, x, more=None):
            return x if more is None else x + more

    monkeypatch.setattr(lockstep, "MEMORY", memory)
    inputs = [keras.Input((4, 4, 3)), keras.Input((4, 4, 3), optional=True)]
    model = keras.Model(inputs, Sum(name="sum")(*inputs))
    (original, _) = run(model, [[images(8), None]])["sum"]
    ((first, second),) = [args for args, _ in original]
    np.testing.assert_array_equal(first, images(8)[:samples])
    assert second is None

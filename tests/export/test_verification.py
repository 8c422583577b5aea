import keras
import numpy as np
import pytest
from keras import layers

from keras_df.export.verification import check
from keras_df.export.verification import example_inputs
from keras_df.export.verification import expected_outputs
from keras_df.export.verification import max_difference
from keras_df.export.verification import require_tensorflow


def test_the_largest_difference_and_value():
    expected = [np.array([[1.0, -4.0]]), np.array([[2.0]])]
    actual = [np.array([[1.0, -3.5]]), np.array([[2.25]])]
    assert max_difference(expected, actual) == (0.5, 4.0)


def test_outputs_in_another_order_are_paired():
    a, b, c = np.ones((2, 3)), np.zeros((2, 3)), np.ones((2, 4))
    assert max_difference([a, b, c], [c, b, a + 0.1])[0] == pytest.approx(0.1)


def test_an_output_is_paired_once():
    a, b = np.ones((2, 3)), np.zeros((2, 3))
    assert max_difference([a, a], [a, b])[0] == 1.0


@pytest.mark.parametrize(
    "actual, message",
    [([], "has 0 outputs; Keras has 1"), ([np.ones((2, 4))], "the shape")],
)
def test_outputs_that_do_not_correspond_are_refused(actual, message):
    with pytest.raises(ValueError, match=message):
        max_difference([np.ones((2, 3))], actual)


def test_what_agrees_passes_with_its_difference():
    expected, actual = [np.array([100.0])], [np.array([100.5])]
    assert check(expected, actual, 0.01, "It") == 0.5
    # Of outputs below 1, the difference itself counts.
    assert check([np.array([0.01])], [np.array([0.015])], 0.01, "It") < 0.01


@pytest.mark.parametrize("wrong", [1.2, np.nan, np.inf, -np.inf])
def test_what_does_not_agree_is_refused(wrong):
    expected = [np.array([1.0, 1.0]), np.array([2.0])]
    actual = [np.array([1.0, wrong]), np.array([2.0])]
    with pytest.raises(RuntimeError, match="The file does not compute"):
        check(expected, actual, 0.05, "The file")


def test_a_nan_in_keras_itself_is_refused():
    with pytest.raises(RuntimeError, match="own outputs are NaN"):
        check([np.array([np.nan])], [np.array([1.0])], 0.05, "The file")


def test_example_inputs_fit_the_model():
    model = keras.Model(
        inputs := [
            keras.Input((None, 4, 3)),
            keras.Input(batch_shape=(2, 5), dtype="int32"),
            keras.Input((None, 2)),
            keras.Input((1,), dtype="string"),
        ],
        [layers.ReLU()(inputs[0]), layers.Embedding(4, 2)(inputs[1])]
        + [layers.ReLU()(inputs[2]), layers.Identity()(inputs[3])],
    )
    images, numbers, sequences, words = example_inputs(model)
    assert (images.shape, images.dtype) == ((4, 224, 4, 3), "float32")
    assert (numbers.shape, numbers.dtype) == ((2, 5), "int32")
    assert set(numbers.ravel()) == {0, 1} and np.all(numbers[:, 0] == 1)
    assert sequences.shape == (4, 32, 2)
    assert words.tolist() == 4 * [[""]]


def test_expected_outputs_are_those_of_inference(two_inputs):
    arrays = example_inputs(two_inputs)
    difference, other = expected_outputs(two_inputs, arrays)
    small, big = (np.asarray(x, float) for x in arrays)
    first, second, third = (
        [np.asarray(w, float) for w in two_inputs.get_layer(name).weights]
        for name in ("first", "second", "other")
    )
    hidden = big @ first[0] + first[1]
    np.testing.assert_allclose(
        difference, hidden - (small @ second[0] + second[1]), atol=1e-5
    )
    np.testing.assert_allclose(other, hidden @ third[0] + third[1], atol=1e-5)


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="Packing needs the TensorFlow.*jax"):
        require_tensorflow("Packing")


def test_a_layer_that_keeps_its_state_is_run_from_where_it_is():
    inputs = keras.Input(batch_shape=(2, 3, 4))
    model = keras.Model(inputs, layers.SimpleRNN(5, stateful=True)(inputs))
    x = example_inputs(model)
    first, second = expected_outputs(model, x), expected_outputs(model, x)
    np.testing.assert_array_equal(first[0], second[0])

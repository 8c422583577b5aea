import keras
import numpy as np
import pytest
from keras import layers
from probability_helpers import centered
from probability_helpers import softmax

from keras_df.surgery.matching import match_outputs


def ending_in(*last):
    return keras.Sequential([keras.Input((4,)), layers.Dense(4), *last])


def error(model, taught, learned):
    loss = match_outputs(model, model)
    return float(loss.compute_loss(taught, learned))


def pair_of_logits(*shape):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype("float32") for _ in range(2)]


@pytest.mark.parametrize("classes", [4, 1000])
def test_probabilities_of_classes_are_compared_as_logits(classes):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(classes)])
    model.add(layers.Activation("softmax"))
    first, second = pair_of_logits(6, classes)
    expected = np.mean((centered(first) - centered(second)) ** 2)
    actual = error(model, softmax(first), softmax(second))
    np.testing.assert_allclose(actual, expected, rtol=2e-3)


def test_classes_on_another_axis():
    model = keras.Sequential(
        [keras.Input((4, 5, 5)), layers.Softmax(axis=1, name="classes")]
    )
    first, second = pair_of_logits(2, 4, 5, 5)
    expected = np.mean((centered(first, 1) - centered(second, 1)) ** 2)
    actual = error(model, softmax(first, 1), softmax(second, 1))
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


@pytest.mark.parametrize(
    "last", [layers.Reshape((25, 4)), layers.Activation("linear")]
)
def test_classes_that_a_layer_passes_on(last):
    model = keras.Sequential([keras.Input((5, 5, 4)), layers.Softmax(), last])
    first, second = pair_of_logits(2, *model.outputs[0].shape[1:])
    expected = np.mean((centered(first) - centered(second)) ** 2)
    actual = error(model, softmax(first), softmax(second))
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_probabilities_of_events_are_compared_as_logits():
    first, second = pair_of_logits(6, 4)
    model = ending_in(layers.Dense(4, "sigmoid"))
    actual = error(model, *(1 / (1 + np.exp(-x)) for x in (first, second)))
    expected = np.mean((first - second) ** 2)
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_other_outputs_are_compared_as_they_are():
    first, second = pair_of_logits(6, 4)
    expected = np.mean((first - second) ** 2)
    np.testing.assert_allclose(
        error(ending_in(), first, second), expected, rtol=1e-5
    )


def test_certain_and_half_precision_probabilities_give_finite_errors():
    model = ending_in(layers.Softmax())
    certain = np.eye(4, dtype="float16")
    assert 0 < error(model, certain, certain[::-1]) < np.inf
    assert error(model, certain, certain) == 0
    model = ending_in(layers.Dense(1, "sigmoid"))
    assert 0 < error(model, certain[:, :1], 1 - certain[:, :1]) < np.inf


@pytest.mark.parametrize(
    "model, teacher, words",
    [
        (ending_in(layers.Softmax()), ending_in(), "'linear'.*'softmax'"),
        (ending_in(), ending_in(layers.Softmax()), "'softmax'.*'linear'"),
    ],
)
def test_logits_are_not_compared_with_probabilities(model, teacher, words):
    with pytest.raises(ValueError, match=f"Output 0 .*{words}"):
        match_outputs(model, teacher)


def test_activations_that_make_no_probabilities_may_differ():
    relu = ending_in(layers.ReLU())
    first, second = pair_of_logits(6, 4)
    loss = match_outputs(ending_in(), relu).compute_loss(first, second)
    np.testing.assert_allclose(loss, np.mean((first - second) ** 2), rtol=1e-5)

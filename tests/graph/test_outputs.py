import keras
import pytest
from keras import layers

from keras_df.graph.outputs import activation_of
from keras_df.graph.outputs import made_by


def two_heads():
    inputs = keras.Input((4,))
    shares = layers.Dense(3, "softmax", name="shares")(inputs)
    amount = layers.Dense(1, name="amount")(inputs)
    return keras.Model(inputs, [shares, amount], name="heads")


@pytest.mark.parametrize(
    "last, expected",
    [
        (layers.Dense(3, "sigmoid"), "sigmoid"),
        (layers.Activation("softmax"), "softmax"),
        (layers.Softmax(), "softmax"),
        (keras.ops.softmax, "softmax"),
        (keras.ops.sigmoid, "sigmoid"),
        (layers.Dense(3), "linear"),
        (layers.Reshape((2, 2)), "linear"),
        (layers.Dropout(0.5), "dropout"),
    ],
)
def test_activation_of_an_output(last, expected):
    output = last(keras.Input((4,)))
    assert activation_of(output) == expected


@pytest.mark.parametrize("first", ["softmax", "sigmoid", "linear", "relu"])
@pytest.mark.parametrize(
    "last",
    [
        layers.Reshape((16, 3)),
        layers.Flatten(),
        layers.GlobalAveragePooling2D(),
        layers.Activation("linear", dtype="float32"),
        layers.Identity(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_probabilities_that_are_passed_on(first, last):
    inputs = keras.Input((4, 4, 2))
    output = last(layers.Conv2D(3, 1, activation=first)(inputs))
    expected = "linear" if first == "relu" else first
    assert activation_of(output) == expected


def test_probabilities_that_a_nested_model_passes_on():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, "softmax"), layers.Reshape((2, 3))]
    )
    assert activation_of(inner(keras.Input((4,)))) == "softmax"


@pytest.mark.parametrize("index, expected", [(0, "shares"), (1, "amount")])
def test_outputs_of_a_nested_model(index, expected):
    output = two_heads()(keras.Input((4,)))[index]
    assert made_by(output).name == expected


def test_outputs_of_a_nested_sequential_model():
    nested = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="last")])
    assert made_by(nested(keras.Input((4,)))).name == "last"


class Subclassed(keras.Model):
    def call(self, x):
        return keras.ops.softmax(x)


def test_a_subclassed_model_is_a_layer_like_any_other():
    head = Subclassed(name="head")
    output = head(keras.Input((4,)))
    assert made_by(output) is head
    assert activation_of(output) == "subclassed"

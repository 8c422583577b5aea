"""Copies of layers and operations."""

import functools

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_df.graph.twin import copy_weights
from keras_df.graph.twin import twin


def operation_of(tensor):
    return tensor._keras_history.operation


def double(x):
    return 2.0 * x


def test_twin_shares_nothing():
    layer = layers.Dense(3, name="dense")
    layer.build((None, 2))
    new = twin(layer, {"units": 4})
    assert new.units == 4 and new.name == "dense" and not new.built


@pytest.mark.parametrize(
    "activation",
    [double, lambda x: x + 1.0, functools.partial(ops.elu, alpha=0.5)],
)
def test_activation_of_any_kind_is_taken_over(activation):
    layer = layers.Conv2D(3, 2, activation=activation)
    assert twin(layer).activation is activation
    assert layer.activation is activation


def test_lambda_is_taken_over():
    layer = layers.Lambda(
        lambda x, n: x * n, arguments={"n": 3.0}, name="times"
    )
    new = twin(layer)
    assert new is not layer and new.name == "times"
    np.testing.assert_allclose(np.asarray(new(np.ones(2))), 3.0)


def test_operation_keeps_name_and_arguments():
    x = keras.Input((4,))
    old = operation_of(ops.roll(x, 2, axis=1))
    new = twin(old, {"shift": 1})
    assert (new.name, new.shift, new.axis) == (old.name, 1, 1)
    assert old.shift == 2 and not new._inbound_nodes
    assert new.get_config()["shift"] == 1


def test_operation_with_arrays_for_arguments():
    x = keras.Input((2,))
    old = operation_of(ops.clip(x, np.zeros(2), np.ones(2)))
    new = twin(old)
    assert new is not old and new.name == old.name
    assert len(old._inbound_nodes) == 1 and not new._inbound_nodes
    np.testing.assert_array_equal(
        np.asarray(new(np.array([[2.0, -1.0]]))), [[1.0, 0.0]]
    )


class Serializing(layers.Layer):
    """A custom layer that writes a function to its config by itself."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self._function = function

    def call(self, x):
        return self._function(x)

    def get_config(self):
        function = keras.saving.serialize_keras_object(self._function)
        return {**super().get_config(), "function": function}

    @classmethod
    def from_config(cls, config):
        function = config.pop("function")
        function = keras.saving.deserialize_keras_object(function)
        return cls(function, **config)


def test_custom_layer_with_its_own_config():
    layer = Serializing(double, name="own")
    new = twin(layer)
    assert new is not layer and new.name == "own"
    np.testing.assert_allclose(np.asarray(new(np.ones(2))), 2.0)


class OwnDense(layers.Dense):
    pass


def test_subclass_of_a_stock_layer_takes_its_activation_over():
    layer = OwnDense(3, activation=double)
    new = twin(layer)
    assert type(new) is OwnDense and new.activation is double


class Stubborn(layers.Layer):
    def __init__(self, function):
        super().__init__(name="stubborn")
        self.function = function

    def call(self, x):
        return self.function(x)


def test_layer_without_a_config_is_shared_with_a_warning():
    layer = Stubborn(double)
    with pytest.warns(UserWarning, match="'stubborn'.*cannot be copied"):
        assert twin(layer) is layer


def test_layer_without_a_config_cannot_change():
    with pytest.raises(ValueError, match="'stubborn'.*cannot be copied"):
        twin(Stubborn(double), {"name": "other"})


class Padded(layers.Layer):
    """A layer whose config names the padding it chose, not what it got."""

    def __init__(self, padding=None, **kwargs):
        super().__init__(**kwargs)
        self.pad = layers.ZeroPadding1D(1) if padding is None else None
        self.conv = layers.Conv1D(4, 3)

    def build(self, shape):
        self.conv.build(shape)
        self.built = True

    def call(self, x):
        return self.conv(x if self.pad is None else self.pad(x))

    def get_config(self):
        return {**super().get_config(), "padding": "valid"}


def test_layer_whose_config_loses_a_part_is_shared_with_a_warning():
    layer = Padded(name="padded")
    layer(np.ones((1, 6, 2)))
    with pytest.warns(UserWarning, match="'padded'.*ZeroPadding1D"):
        assert twin(layer) is layer


def test_weights_of_inner_layers_are_copied():
    layer = layers.Bidirectional(layers.LSTM(3))
    new = twin(layer)
    for each in (layer, new):
        each.build((None, 4, 2))
    copy_weights(layer, new)
    for a, b in zip(layer.weights, new.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
        assert a is not b


def test_activation_that_is_built_when_it_first_runs():
    layer = layers.Dense(3, activation=layers.PReLU())
    layer(np.ones((2, 4)))
    layer.activation.alpha.assign([1.0, 2.0, 3.0])
    new = twin(layer)
    new.build((None, 4))
    copy_weights(layer, new)
    np.testing.assert_array_equal(
        np.asarray(new.activation.alpha), [1.0, 2.0, 3.0]
    )


def test_layers_inside_that_are_frozen_stay_frozen():
    layer = layers.MultiHeadAttention(2, 4)
    new = twin(layer)
    for each in (layer, new):
        each.build((None, 5, 8), (None, 5, 8))
    layer._query_dense.trainable = False
    copy_weights(layer, new)
    frozen = [x.name for x in new._flatten_layers() if not x.trainable]
    assert frozen == ["query"]
    assert len(new.trainable_weights) == len(layer.trainable_weights) == 6


def test_layer_inside_a_frozen_one_that_is_trained_stays_so():
    layer = layers.Bidirectional(layers.LSTM(3))
    new = twin(layer)
    for each in (layer, new):
        each.build((None, 4, 2))
    layer.trainable = False
    layer.forward_layer.trainable = True
    copy_weights(layer, new)
    assert not new.trainable and not new.backward_layer.trainable
    assert new.forward_layer.trainable


def test_operation_that_takes_a_function():
    old = operation_of(ops.vectorized_map(double, keras.Input((2,))))
    new = twin(old)
    assert new is not old and new.name == old.name
    assert len(old._inbound_nodes) == 1 and not new._inbound_nodes
    np.testing.assert_array_equal(np.asarray(new(np.ones((3, 2)))), 2.0)


def test_initializers_that_hold_arrays_are_left_to_the_same_shapes():
    values = keras.initializers.Constant(np.full(4, 2.0, "float32"))
    layer = layers.BatchNormalization(gamma_initializer=values)
    same, other = twin(layer), twin(layer, is_resized=True)
    same.build((None, 4))
    other.build((None, 3))
    np.testing.assert_array_equal(np.asarray(same.gamma), 2.0)
    assert other.gamma.shape == (3,)

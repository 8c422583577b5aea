"""Teaching keras_df new layers."""

import keras
import numpy as np
import pytest
from invariant import all_reasons
from invariant import assert_compresses
from invariant import prunable_channels
from invariant import random_plan
from keras import layers
from keras import ops

import keras_df as kdf
from keras_df.graph import Flow
from keras_df.graph import Kernel
from keras_df.graph import analyze
from keras_df.graph import register_rule
from keras_df.graph import registry
from keras_df.graph.apply import MORE_WEIGHTS
from keras_df.graph.apply import NO_PAIR


@pytest.fixture(autouse=True)
def forget_rules(monkeypatch):
    """Rules that a test registers are gone after it."""
    monkeypatch.setattr(registry, "_LAYER_RULES", dict(registry._LAYER_RULES))


class ChannelScale(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        return x * self.scale


class Linear(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape):
        self.matrix = self.add_weight(
            shape=(self.units, shape[-1]), name="matrix"
        )
        self.shift = self.add_weight(shape=(self.units,), name="shift")

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.matrix)) + self.shift


def linear_rule(pair=None):
    def rule(call):
        layer = call.operation
        inputs = call.read(call.inputs[0], -1)
        outputs = call.units.fresh(layer.units)
        return Flow(
            [call.output(-1, outputs)],
            weights={
                "matrix": {0: outputs, 1: inputs},
                "shift": {0: outputs},
            },
            config={"units": lambda keep: keep.count(outputs)},
            kernel=Kernel(
                "matrix",
                inputs=(1, inputs),
                outputs=(0, outputs),
                schemes={1: ((1,), (0,))},
                pair_areas={1: (1, 1)},
                pair=pair,
            ),
        )

    return rule


def network(layer, width=8):
    inputs = keras.Input((6,))
    x = layers.Dense(width, activation="relu", name="before")(inputs)
    x = layer(x)
    x = layers.Dense(8, name="after")(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def test_unknown_layer_is_frozen_with_a_reason():
    model = network(ChannelScale(name="own"))
    assert prunable_channels(model)["before"] == 0
    reasons = all_reasons(analyze(model))
    assert any("`own` is a ChannelScale" in reason for reason in reasons)


def test_rule_lets_channels_pass():
    @register_rule(ChannelScale)
    def channel_scale(call):
        ids = call.read(call.inputs[0], -1)
        return Flow([call.output(-1, ids)], weights={"scale": {0: ids}})

    model = network(ChannelScale())
    assert prunable_channels(model)["before"] == 8
    assert_compresses(model)


class Tempered(ChannelScale):
    """Has a weight that its rule does not speak of."""

    def build(self, shape):
        super().build(shape)
        self.temperature = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        return super().call(x) / self.temperature


def test_training_what_was_compressed_leaves_the_original_as_it_is():
    """JAX gives the memory of what it trains away."""
    register_rule(Tempered)(
        lambda call: Flow(
            [call.output(-1, ids := call.read(call.inputs[0], -1))],
            weights={"scale": {0: ids}},
        )
    )
    model = network(Tempered())
    x = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
    before = np.asarray(model(x))
    small = kdf.compress(model, random_plan(model))
    small.compile("sgd", "mse")
    small.fit(x, np.zeros((8, 3)), verbose=0)
    np.testing.assert_array_equal(np.asarray(model(x)), before)


def test_rule_with_a_kernel_prunes():
    register_rule(Linear)(linear_rule())
    model = network(Linear(10, name="own"))
    assert prunable_channels(model)["own"] == 10
    assert_compresses(model)


def test_kernel_without_a_pair_stays_dense():
    register_rule(Linear)(linear_rule())
    model = network(Linear(10, name="own"))
    kernel = analyze(model).nodes["own"].kernel
    assert kernel.schemes == {} and kernel.reason == NO_PAIR
    assert any(NO_PAIR in reason for reason in all_reasons(analyze(model)))


def test_kernel_with_a_pair_is_decomposed():
    def pair(layer, rank, units):
        return layers.Dense(rank, use_bias=False), Linear(units)

    register_rule(Linear)(linear_rule(pair))
    model = network(Linear(10, name="own"))
    assert kdf.inspect(model).layers[2].max_rank == 8
    assert_compresses(model, seeds=range(8))


def test_pair_needs_every_weight_of_the_layer():
    class Noted(Linear):
        def build(self, shape):
            super().build(shape)
            self.note = self.add_weight(shape=(3,), name="note")

    def pair(layer, rank, units):
        return layers.Dense(rank), Noted(units)

    register_rule(Noted)(linear_rule(pair))
    kernel = analyze(network(Noted(10, name="own"))).nodes["own"].kernel
    assert kernel.schemes == {} and kernel.reason == MORE_WEIGHTS


def test_rule_does_not_apply_to_subclasses():
    class Own(layers.Dense):
        pass

    assert "own" not in prunable_channels(network(Own(4, name="own")))


@pytest.mark.parametrize(
    "rule, words",
    [
        (lambda call: 1 / 0, "ZeroDivisionError"),
        (lambda call: Flow([]), "1 outputs, but 0"),
        (
            lambda call: Flow(
                [call.output(-1, call.read(call.inputs[0], -1))],
                weights={"scale": {0: np.arange(3)}},
            ),
            "has 3 channels on axis 0",
        ),
        (
            lambda call: Flow(
                [call.output(-1, call.read(call.inputs[0], -1))],
                weights={"name": {0: np.arange(3)}},
            ),
            "no weight of the layer",
        ),
    ],
)
def test_rule_that_fails_leaves_the_layer_alone(rule, words):
    register_rule(ChannelScale)(rule)
    model = network(ChannelScale(name="own"))
    reasons = all_reasons(analyze(model))
    assert any("`own`" in r and words in r for r in reasons)
    kdf.compress(model, kdf.baselines.magnitude(model, kdf.FLOPs(0.9)))


def test_types_are_classes_or_names():
    with pytest.raises(TypeError, match="layer classes or names"):
        register_rule(ChannelScale())

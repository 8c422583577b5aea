"""What the two layers of a low-rank pair take over from the original."""

import keras
import numpy as np
import pytest
from invariant import TOLERANCE
from invariant import difference
from keras import layers

import keras_df as kdf
from keras_df.budgets.allocation import Selection
from keras_df.graph import analyze


def decomposed(layer, rank, scheme=1, shape=(8, 8, 6)):
    """A model of one layer and a head, with the layer as a pair."""
    inputs = keras.Input(shape)
    x = layer(inputs)
    axes = tuple(range(1, len(x.shape) - 1))
    x = keras.ops.mean(x, axis=axes) if axes else x
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    graph = analyze(model)
    selection = Selection(
        np.ones(graph.unit_count, bool),
        {layer.name: rank},
        {layer.name: scheme},
    )
    plan = kdf.CompressionPlan.from_selection(graph, selection)
    return model, kdf.compress(model, plan)


def test_a_convolution_keeps_its_settings():
    layer = layers.Conv2D(
        12,
        (3, 5),
        strides=(2, 1),
        padding="same",
        activation="relu",
        kernel_regularizer=keras.regularizers.L2(1e-3),
        bias_regularizer="l1",
        activity_regularizer="l2",
        name="conv",
    )
    layer.trainable = False
    _, small = decomposed(layer, 4)
    first = small.get_layer("conv_lowrank_in")
    second = small.get_layer("conv_lowrank_out")
    assert type(first) is type(second) is layers.Conv2D
    assert (first.filters, second.filters) == (4, 12)
    assert first.kernel_size == (3, 5) and second.kernel_size == (1, 1)
    assert first.strides == (2, 1) and second.strides == (1, 1)
    assert first.padding == "same"
    assert not first.use_bias and second.use_bias
    assert first.activation is keras.activations.linear
    assert second.activation is keras.activations.relu
    assert first.kernel_regularizer.l2 == second.kernel_regularizer.l2
    assert second.bias_regularizer is not None
    assert first.activity_regularizer is None
    assert second.activity_regularizer is not None
    assert not first.trainable and not second.trainable


def test_dilation_stays_with_the_window():
    layer = layers.Conv2D(12, 3, dilation_rate=2, name="conv")
    _, small = decomposed(layer, 4)
    assert small.get_layer("conv_lowrank_in").dilation_rate == (2, 2)
    assert small.get_layer("conv_lowrank_out").dilation_rate == (1, 1)


def test_scheme_2_splits_rows_from_columns():
    layer = layers.Conv2D(12, (3, 5), strides=(2, 1), name="conv")
    model, small = decomposed(layer, 18, scheme=2, shape=(9, 12, 6))
    first = small.get_layer("conv_lowrank_in")
    second = small.get_layer("conv_lowrank_out")
    assert first.kernel_size == (3, 1) and second.kernel_size == (1, 5)
    assert first.strides == (2, 1) and second.strides == (1, 1)
    # Rank 18 is full: the pair is exact.
    x = np.random.default_rng(0).normal(size=(2, 9, 12, 6)).astype("float32")
    np.testing.assert_allclose(
        np.asarray(model(x)), np.asarray(small(x)), atol=1e-4
    )


@pytest.mark.parametrize(
    "layer, rank, shape",
    [
        (layers.Conv1D(9, 3, padding="causal", name="x"), 9, (8, 6)),
        (layers.Conv2D(9, 3, activation="tanh", name="x"), 9, (8, 8, 6)),
        (layers.Conv3D(9, 2, name="x"), 9, (4, 4, 4, 6)),
        (layers.Conv2DTranspose(9, 3, 2, "same", name="x"), 6, (5, 5, 6)),
        (layers.Conv1DTranspose(9, 3, 2, name="x"), 6, (5, 6)),
        (layers.SeparableConv2D(9, 3, name="x"), 6, (8, 8, 6)),
        (layers.SeparableConv1D(9, 3, name="x"), 6, (8, 6)),
        (layers.Dense(9, "relu", name="x"), 6, (6,)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_pair_of_full_rank_is_exact(layer, rank, shape):
    model, small = decomposed(layer, rank, shape=shape)
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    np.testing.assert_allclose(
        np.asarray(model(x)), np.asarray(small(x)), atol=1e-4
    )


def test_dtype_policies_stay():
    layer = layers.Conv2D(9, 3, dtype="mixed_bfloat16", name="conv")
    _, small = decomposed(layer, 4)
    for name in ("conv_lowrank_in", "conv_lowrank_out"):
        assert small.get_layer(name).dtype_policy.name == "mixed_bfloat16"


def test_a_constraint_of_the_kernel_does_not_hold_for_its_factors():
    layer = layers.Dense(
        16, kernel_constraint="non_neg", bias_constraint="non_neg", name="dense"
    )
    model, small = decomposed(layer, 2, shape=(16,))
    for name in ("dense_lowrank_in", "dense_lowrank_out"):
        assert small.get_layer(name).kernel_constraint is None
    assert small.get_layer("dense_lowrank_out").bias_constraint is not None
    assert model.get_layer("dense").kernel_constraint is not None


def test_outputs_keep_their_names():
    inputs = keras.Input((16,))
    heads = [layers.Dense(12, name=name)(inputs) for name in "ab"]
    model = keras.Model(inputs, heads)
    plan = kdf.baselines.uniform_rank(model, kdf.MACs(0.5))
    assert {layer.rank for layer in plan.layers.values()} != {None}
    small = kdf.compress(model, plan)
    assert small.output_names == model.output_names == ["a", "b"]
    small.compile("sgd", loss={"a": "mse", "b": "mae"})
    x, y = np.ones((2, 16)), np.ones((2, 12))
    small.fit(x, {"a": y, "b": y}, verbose=0)


def test_initializers_that_hold_arrays_fit_no_smaller_kernel():
    values = keras.initializers.Constant(np.ones((6, 16), "float32"))
    layer = layers.Dense(16, kernel_initializer=values, name="dense")
    model, small = decomposed(layer, 2, shape=(6,))
    x = np.ones((1, 6), "float32")
    np.testing.assert_allclose(small(x), model(x), atol=1e-4)
    plan = kdf.baselines.magnitude(model, kdf.MACs(0.5))
    assert kdf.compress(model, plan).get_layer("dense").units < 16


def test_a_pair_takes_no_name_that_a_model_compressed_before_has():
    def decompose(model, path):
        graph = analyze(model)
        kept = np.ones(graph.unit_count, bool)
        selection = Selection(kept, {path: 3}, {path: 1})
        plan = kdf.CompressionPlan.from_selection(graph, selection)
        small = kdf.compress(model, plan)
        reference = kdf.surgery.zeroed_consumers(model, plan)
        x = np.random.default_rng(0).normal(size=(4, 16))
        assert difference(small, reference, x) <= TOLERANCE
        return small

    inputs = keras.Input((16,), name="inputs")
    model = keras.Model(inputs, layers.Dense(32, name="logits")(inputs))
    names = []
    for _ in range(3):
        model = decompose(model, "logits")
        names.append([layer.name for layer in model.layers[1:]])
    first = "logits_lowrank_in"
    assert names == [
        [first, "logits"],
        [first, f"{first}_1", "logits"],
        [first, f"{first}_1", f"{first}_2", "logits"],
    ]

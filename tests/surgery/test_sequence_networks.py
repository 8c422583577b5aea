"""Surgery around what is left alone: attention, recurrence, own layers."""

import keras
import numpy as np
import pytest
from invariant import all_reasons
from invariant import assert_compresses
from invariant import assert_reloads
from invariant import prunable_channels
from invariant import random_inputs
from invariant import random_plan
from invariant import randomize
from keras import layers
from keras import ops

import keras_df as kdf
from keras_df.graph import analyze


def sequence(steps=6, channels=8):
    return keras.Input((steps, channels), name="sequence")


def close(inputs, x):
    x = layers.GlobalAveragePooling1D()(x) if len(x.shape) > 2 else x
    return keras.Model(inputs, layers.Dense(3, name="logits")(x))


def mlp(x, width, name):
    y = layers.Dense(width, activation="gelu", name=f"{name}_wide")(x)
    return layers.Dense(x.shape[-1], name=f"{name}_narrow")(y)


@pytest.mark.parametrize(
    "attention",
    [
        lambda x: layers.MultiHeadAttention(2, 4)(x, x),
        lambda x: layers.MultiHeadAttention(2, 4, value_dim=3)(
            query=x, value=x, key=2.0 * x
        ),
        lambda x: layers.MultiHeadAttention(2, 4)(
            x, x, use_causal_mask=True, return_attention_scores=True
        )[0],
        lambda x: layers.GroupQueryAttention(4, 4, 2)(x, x),
        lambda x: layers.Attention()([x, x]),
        lambda x: layers.AdditiveAttention()([x, x, x]),
    ],
)
def test_transformer_block(attention):
    inputs = sequence()
    x = layers.Dense(8, name="embed")(inputs)
    x = layers.LayerNormalization()(x + attention(x))
    x = layers.LayerNormalization()(x + mlp(x, 12, "mlp"))
    model = close(inputs, x)
    assert_compresses(model, seeds=(0, 1))
    assert prunable_channels(model)["mlp_wide"] == 12
    assert prunable_channels(model)["embed"] == 0


def test_frozen_parts_of_attention_are_not_trained():
    inputs = sequence()
    attention = layers.MultiHeadAttention(2, 4, name="attention")
    x = layers.Dense(8)(inputs)
    model = close(inputs, attention(x, x))
    attention._query_dense.trainable = False
    small = kdf.compress(model, random_plan(model))
    attention = small.get_layer("attention")
    before = [np.asarray(x).copy() for x in attention.weights]
    small.compile("sgd", "mse")
    small.fit(random_inputs(model), np.ones((2, 3)), verbose=0)
    stayed = [
        x.path.split("/")[-2:]
        for x, value in zip(attention.weights, before)
        if np.array_equal(np.asarray(x), value)
    ]
    assert stayed == [["query", "kernel"], ["query", "bias"]]


def test_attention_multiply_accumulates():
    inputs = sequence(6, 8)
    layer = layers.MultiHeadAttention(2, 4, name="attention")
    model = keras.Model(inputs, layer(inputs, inputs))
    projections = 4 * 6 * 8 * (2 * 4)
    scores_and_sum = 6 * 6 * 2 * 4 * 2
    assert kdf.count(model).macs == projections + scores_and_sum


def test_vision_transformer(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 4, strides=4, name="patches")(inputs)
    x = layers.Reshape((4, 8))(x)
    token = layers.Dense(8)(layers.GlobalAveragePooling1D()(x))
    x = layers.Concatenate(axis=1)([ops.expand_dims(token, 1), x])
    for index in range(2):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(y, y)])
        x = layers.Add()(
            [x, mlp(layers.LayerNormalization()(x), 16, f"{index}")]
        )
    model = keras.Model(inputs, layers.Dense(3)(x[:, 0]))
    small = assert_compresses(model)
    assert prunable_channels(model)["0_wide"] == 16
    assert_reloads(small, random_inputs(model), tmp_path / "small.keras")


@pytest.mark.parametrize(
    "recurrent",
    [
        lambda: layers.LSTM(5),
        lambda: layers.GRU(5, return_sequences=True, activation="relu"),
        lambda: layers.SimpleRNN(5, return_sequences=True),
        lambda: layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
        lambda: layers.RNN(layers.GRUCell(5)),
        lambda: layers.RNN([layers.LSTMCell(5), layers.LSTMCell(4)]),
    ],
)
def test_recurrent_layers_are_left_alone(recurrent):
    inputs = sequence()
    x = recurrent()(layers.Conv1D(6, 3)(inputs))
    x = layers.Dense(8, activation="relu", name="hidden")(x)
    model = close(inputs, x)
    assert_compresses(model, seeds=(0, 1))
    assert prunable_channels(model)["hidden"] == 8


def test_recurrent_multiply_accumulates():
    inputs = sequence(6, 8)
    model = keras.Model(inputs, layers.LSTM(5)(inputs))
    assert kdf.count(model).macs == 6 * (8 * 20 + 5 * 20)
    both = layers.Bidirectional(layers.GRU(5))(inputs)
    assert kdf.count(keras.Model(inputs, both)).macs == 2 * 6 * (8 + 5) * 15


def test_states_of_a_recurrent_layer():
    inputs = sequence()
    outputs = layers.LSTM(5, return_state=True)(layers.Dense(6)(inputs))
    x = layers.LSTM(5)(layers.Dense(4)(inputs), initial_state=outputs[1:])
    assert_compresses(close(inputs, layers.Concatenate()([x, outputs[0]])))


@pytest.mark.parametrize("reconstruction", ["sequential", "independent"])
def test_a_recurrent_layer_of_the_caller_keeps_its_state(reconstruction):
    inputs = keras.Input(batch_shape=(4, 6, 8))
    x = layers.BatchNormalization()(layers.Dense(12)(inputs))
    memory = layers.GRU(5, stateful=True)
    model = close(inputs, layers.Dense(8)(memory(x)))
    randomize(model)
    batches = [random_inputs(model, seed=seed) for seed in range(2)]
    model(batches[0])
    before = np.asarray(memory.states[0]).copy()
    plan = kdf.baselines.energy(model, kdf.MACs(0.95), calibration=batches)
    kdf.compress(model, plan, batches, reconstruction=reconstruction)
    kdf.recalibrate(model, batches)
    np.testing.assert_array_equal(np.asarray(memory.states[0]), before)


def test_convolutional_lstm():
    inputs = keras.Input((3, 6, 6, 2))
    x = layers.ConvLSTM2D(4, 3, name="lstm")(inputs)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3)(x))
    model = keras.Model(inputs, layers.Dense(3)(x))
    assert_compresses(model)
    counts = {layer.name: layer.macs for layer in kdf.count(model).layers}
    assert counts["lstm"] == 3 * 4 * 4 * 9 * (2 + 4) * 16


def test_masked_text():
    inputs = keras.Input((7,), dtype="int32", name="tokens")
    x = layers.Embedding(6, 8, mask_zero=True)(inputs)
    x = layers.Dense(8, name="dense")(x)
    x = layers.LSTM(6, return_sequences=True)(x)
    x = layers.Dense(8, activation="relu", name="hidden")(x)
    model = close(inputs, x)
    assert_compresses(model)
    assert prunable_channels(model)["hidden"] == 8


def test_masking_layer():
    inputs = sequence()
    x = layers.Masking(0.0)(inputs)
    x = layers.Dense(8, name="dense")(x)
    x = layers.GRU(4)(x)
    batch = random_inputs(keras.Model(inputs, inputs))
    batch[:, 4:] = 0.0
    assert_compresses(close(inputs, x), inputs=batch)


def test_explicit_masks():
    inputs = [sequence(), keras.Input((6,), dtype="bool", name="mask")]
    x = layers.Dense(8)(inputs[0])
    x = layers.MultiHeadAttention(2, 4)(
        x, x, attention_mask=ops.expand_dims(inputs[1], 1)
    )
    x = layers.LSTM(5, return_sequences=True)(x, mask=inputs[1])
    x = layers.Dense(8)(x)
    model = keras.Model(
        inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x))
    )
    batch = random_inputs(keras.Model(inputs[0], inputs[0]))
    mask = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]], bool)
    assert_compresses(model, inputs=[batch, mask])


def test_einsum_dense_is_left_alone():
    inputs = sequence()
    x = layers.EinsumDense("abc,cd->abd", (None, 6), bias_axes="d")(inputs)
    x = layers.Dense(8, name="hidden")(x)
    x = layers.EinsumDense("...x,xy->...y", (5,), name="last")(x)
    model = close(inputs, x)
    assert_compresses(model)
    assert prunable_channels(model)["hidden"] == 0
    counts = {layer.name: layer.macs for layer in kdf.count(model).layers}
    assert counts["last"] == 6 * 8 * 5


def test_time_distributed_layers_are_left_alone():
    inputs = keras.Input((3, 8, 8, 2))
    x = layers.TimeDistributed(layers.Conv2D(4, 3), name="frames")(inputs)
    x = layers.TimeDistributed(layers.BatchNormalization())(x)
    x = layers.TimeDistributed(layers.GlobalAveragePooling2D())(x)
    x = layers.TimeDistributed(layers.Dense(6))(x)
    x = layers.Dense(8, name="hidden")(layers.Flatten()(x))
    model = keras.Model(inputs, layers.Dense(3)(x))
    assert_compresses(model)
    assert prunable_channels(model)["hidden"] == 8
    counts = {layer.name: layer.macs for layer in kdf.count(model).layers}
    assert counts["frames"] == 3 * 6 * 6 * 9 * 2 * 4


def test_time_distributed_model_is_left_alone():
    frame = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3),
            layers.GlobalAveragePooling2D(),
        ]
    )
    inputs = keras.Input((3, 8, 8, 2))
    x = layers.TimeDistributed(frame, name="frames")(inputs)
    x = layers.Dense(8)(layers.LSTM(5)(x))
    model = keras.Model(inputs, layers.Dense(3)(x))
    assert_compresses(model)
    counts = {layer.name: layer.macs for layer in kdf.count(model).layers}
    assert counts["frames"] == 3 * 6 * 6 * 9 * 2 * 4


def test_lambda_layers_are_left_alone():
    scale = 3.0
    inputs = sequence()
    x = layers.Dense(8, name="before")(inputs)
    x = layers.Lambda(lambda t: t * scale)(x)
    x = layers.Lambda(lambda t, n: t + n, arguments={"n": 1.0})(x)
    x = layers.Dense(8, name="after")(x)
    model = close(inputs, x)
    assert_compresses(model)
    channels = prunable_channels(model)
    assert channels["before"] == 0 and channels["after"] == 8
    assert any("Lambda" in reason for reason in all_reasons(analyze(model)))


class Scale(layers.Layer):
    """A custom layer whose config Keras makes by itself."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, shape):
        self.shift = self.add_weight(shape=(shape[-1],), name="shift")

    def call(self, x, training=None):
        return x * self.factor + self.shift

    def compute_output_shape(self, shape):
        return shape


class Apply(layers.Layer):
    """A custom layer that Keras has no config for."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.inner = layers.Dense(6)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.function(self.inner(x))


class OwnDense(layers.Dense):
    def call(self, x, training=None):
        return super().call(x) + 1.0


@pytest.mark.parametrize(
    "custom",
    [
        lambda: Scale(2.0),
        lambda: Scale(factor=0.5, name="scale", dtype="float32"),
        lambda: OwnDense(8, activation=lambda x: ops.tanh(x)),
        lambda: layers.TimeDistributed(Scale(2.0)),
        lambda: layers.Bidirectional(
            layers.RNN(layers.GRUCell(4), return_sequences=True)
        ),
    ],
)
def test_custom_layers_are_left_alone(custom):
    inputs = sequence()
    x = layers.Dense(8, name="before")(inputs)
    x = layers.Dense(8, name="after")(custom()(x))
    model = close(inputs, x)
    small = assert_compresses(model)
    channels = prunable_channels(model)
    assert channels["before"] == 0 and channels["after"] == 8
    originals = {id(weight) for weight in model.weights}
    assert not originals & {id(weight) for weight in small.weights}


def test_custom_layer_without_a_config_is_shared():
    inputs = sequence()
    x = layers.Dense(8)(inputs)
    x = Apply(lambda x: ops.tanh(x))(x)
    model = close(inputs, layers.Dense(8)(x))
    randomize(model)
    plan = random_plan(model)
    with pytest.warns(UserWarning, match="shares it with the original"):
        small = kdf.compress(model, plan)
    with pytest.warns(UserWarning, match="shares it with the original"):
        reference = kdf.surgery.zeroed_consumers(model, plan)
    x = random_inputs(model)
    np.testing.assert_allclose(
        np.asarray(small(x)), np.asarray(reference(x)), atol=1e-5
    )


def test_spectral_normalization_is_left_alone():
    inputs = keras.Input((8, 8, 3))
    x = layers.SpectralNormalization(layers.Conv2D(6, 3), name="norm")(inputs)
    x = layers.Conv2D(6, 3)(x)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    assert_compresses(model)
    counts = {layer.name: layer.macs for layer in kdf.count(model).layers}
    assert counts["norm"] == 6 * 6 * 9 * 3 * 6


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="strings need TensorFlow"
)
def test_vocabulary_inside_the_model_is_kept():
    lookup = layers.StringLookup()
    lookup.adapt(["a", "b", "c", "a", "b"])
    inputs = keras.Input((3,), dtype="string")
    x = layers.Embedding(lookup.vocabulary_size(), 6)(lookup(inputs))
    x = layers.Dense(8, name="hidden")(layers.Flatten()(x))
    model = keras.Model(inputs, layers.Dense(3)(x))
    batch = ops.convert_to_tensor([["a", "b", "z"], ["c", "c", "a"]])
    assert_compresses(model, inputs=batch)
    assert prunable_channels(model)["hidden"] == 8


def test_low_rank_adapters_are_left_alone():
    inputs = sequence()
    dense = layers.Dense(8, name="tuned")
    x = layers.Dense(8)(dense(layers.Dense(8)(inputs)))
    model = close(inputs, x)
    macs = kdf.count(model).macs
    dense.enable_lora(2)
    assert_compresses(model)
    assert "tuned" not in prunable_channels(model)
    assert kdf.count(model).macs == macs


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="one backend is enough"
)
def test_quantized_layers_are_left_alone():
    inputs = sequence()
    dense = layers.Dense(8, name="quantized")
    x = layers.Dense(8)(dense(layers.Dense(8)(inputs)))
    model = close(inputs, x)
    macs = kdf.count(model).macs
    dense.quantize("int8")
    assert_compresses(model)
    assert "quantized" not in prunable_channels(model)
    assert kdf.count(model).macs == macs

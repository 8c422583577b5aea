"""Surgery on the ways people put models together."""

import keras
import numpy as np
import pytest
from invariant import TOLERANCE
from invariant import assert_compresses
from invariant import assert_reloads
from invariant import difference
from invariant import prunable_channels
from invariant import random_inputs
from invariant import random_plan
from invariant import randomize
from keras import layers
from keras import ops

import keras_df as kdf


def conv(x, filters=8, **options):
    return layers.Conv2D(filters, 3, padding="same", **options)(x)


def backbone(channels=3, filters=8, name="base", size=8):
    inputs = keras.Input((size, size, channels))
    x = conv(inputs, filters, name="first")
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Add(name="join")([x, conv(layers.ReLU()(x), filters)])
    return keras.Model(inputs, conv(x, 6, name="last"), name=name)


def head(inputs, x):
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(6, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(3, name="logits")(x))


@pytest.mark.parametrize("widths", [(12, 12), (12, 6)])
def test_a_nested_model_that_is_called_with_a_dict(widths):
    """Keras pairs by name what a model has in a list."""
    first, second = (
        keras.Input((width,), name=name) for width, name in zip(widths, "za")
    )
    merged = layers.Concatenate()([layers.Dense(8)(first), second])
    nested = keras.Model([first, second], layers.Dense(4)(merged))
    inputs = keras.Input((5,))
    z, a = (layers.Dense(width)(inputs) for width in widths)
    x = nested({"z": z, "a": a, "b": a})
    assert_compresses(keras.Model(inputs, layers.Dense(3)(x)))


def test_transfer_learning_with_a_frozen_base(tmp_path):
    base = backbone()
    base.trainable = False
    inputs = keras.Input((8, 8, 3))
    model = head(inputs, base(inputs, training=False))
    small = assert_compresses(model)
    assert prunable_channels(model)["base/first"] == 8
    assert prunable_channels(model)["base/last"] == 6
    assert not small.get_layer("base").trainable
    assert not small.get_layer("base").trainable_variables
    assert small.get_layer("logits").trainable
    assert_reloads(small, random_inputs(model), tmp_path / "small.keras")


def test_frozen_base_stays_in_inference_mode_while_training():
    base = backbone()
    base.trainable = False
    inputs = keras.Input((8, 8, 3))
    model = head(inputs, base(inputs, training=False))
    randomize(model)
    x = random_inputs(model)
    small = kdf.compress(model, random_plan(model))
    np.testing.assert_array_equal(
        np.asarray(small(x, training=True)), np.asarray(small(x))
    )


def test_base_within_a_sequential(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Rescaling(1 / 255),
            backbone(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )
    small = assert_compresses(model)
    assert prunable_channels(model)["base/last"] == 6
    assert_reloads(small, random_inputs(model), tmp_path / "small.keras")


def test_sequential_built_by_its_first_call():
    model = keras.Sequential([layers.Dense(8, "relu"), layers.Dense(3)])
    model(np.ones((2, 5), "float32"))
    small = assert_compresses(model, inputs=np.ones((2, 5), "float32"))
    assert list(prunable_channels(model).values()) == [8, 0]
    assert small.count_params() < model.count_params()


def test_unbuilt_sequential_is_refused():
    model = keras.Sequential([layers.Dense(8)])
    with pytest.raises(ValueError, match="not built"):
        kdf.inspect(model)


def test_models_nested_several_levels_deep(tmp_path):
    inputs = keras.Input((8, 8, 3))
    block = keras.Sequential(
        [keras.Input((8, 8, 6)), layers.Conv2D(7, 3), layers.ReLU()],
        name="block",
    )
    middle = keras.Model(inputs, block(backbone()(inputs)), name="middle")
    inputs = keras.Input((8, 8, 3))
    outer = keras.Model(inputs, conv(middle(inputs), 8), name="outer")
    inputs = keras.Input((8, 8, 3))
    model = head(inputs, outer(inputs))
    small = assert_compresses(model)
    assert prunable_channels(model)["outer/middle/base/first"] == 8
    assert_reloads(small, random_inputs(model), tmp_path / "small.keras")


def test_sizes_that_only_a_nested_model_knows():
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, name="first"),
            layers.Conv2D(8, 3, name="second"),
            layers.Flatten(),
            layers.Dense(5, name="logits"),
        ],
        name="inner",
    )
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, inner(inputs))
    assert_compresses(model, inputs=random_inputs(inner))
    macs = {layer.name: layer.macs for layer in kdf.count(model).layers}
    assert macs["inner/first"] == 6 * 6 * 9 * 3 * 8
    assert macs["inner/second"] == 4 * 4 * 9 * 8 * 8
    assert macs["inner/logits"] == 4 * 4 * 8 * 5
    assert prunable_channels(model)["inner/second"] == 8


def test_nested_model_that_is_called_with_a_constant():
    own = [keras.Input((8,)), keras.Input((8,))]
    x = layers.Dense(8, name="dense")(layers.Add()(own))
    inner = keras.Model(own, x, name="inner")
    inputs = keras.Input((6,))
    x = inner([layers.Dense(8, name="first")(inputs), keras.ops.ones((1, 8))])
    model = keras.Model(inputs, layers.Dense(3)(x))
    assert_compresses(model)
    assert prunable_channels(model)["inner/dense"] == 8


def test_nested_model_that_drops_an_axis_of_size_1():
    inner = keras.Sequential(
        [keras.Input((12,)), layers.Dense(8), layers.Dense(6)], name="inner"
    )
    inputs = keras.Input((12, 1))
    model = keras.Model(inputs, layers.Dense(2)(inner(inputs)))
    plan = random_plan(model)
    small = kdf.compress(model, plan)
    assert small.count_params() < model.count_params()
    reference = kdf.surgery.zeroed_consumers(model, plan)
    assert difference(small, reference, random_inputs(model)) <= TOLERANCE


def test_layer_called_twice():
    inputs = keras.Input((8, 8, 3))
    shared = layers.Conv2D(8, 3, padding="same", name="shared")
    norm = layers.BatchNormalization()
    x = norm(shared(conv(inputs, 8, name="stem")))
    x = norm(shared(layers.ReLU()(x)))
    model = head(inputs, x)
    assert_compresses(model)
    assert prunable_channels(model)["shared"] == 8


def test_model_called_twice():
    base = backbone()
    inputs = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    x = layers.Subtract()([base(x) for x in inputs])
    model = head(inputs, x)
    small = assert_compresses(model)
    assert sum("base" in layer.name for layer in small.layers) == 1


def test_model_called_on_different_sizes():
    base = keras.Sequential(
        [keras.Input((None, None, 3)), layers.Conv2D(8, 3, name="conv")],
        name="base",
    )
    inputs = keras.Input((8, 8, 3))
    pooled = [
        layers.GlobalAveragePooling2D()(base(x))
        for x in (inputs, layers.AveragePooling2D(2)(inputs))
    ]
    model = keras.Model(inputs, layers.Dense(3)(layers.Add()(pooled)))
    assert_compresses(model)
    assert prunable_channels(model)["base/conv"] == 8


def test_layer_called_on_different_sizes_costs_by_size():
    inputs = keras.Input((8, 8, 3))
    shared = layers.DepthwiseConv2D(3, padding="same")
    x = conv(inputs, 6, name="stem")
    pooled = [
        layers.GlobalAveragePooling2D()(shared(y))
        for y in (x, layers.MaxPooling2D(2)(x))
    ]
    model = keras.Model(inputs, layers.Dense(3)(layers.Add()(pooled)))
    assert_compresses(model)
    counts = {layer.name: layer.macs for layer in kdf.count(model).layers}
    assert counts[shared.name] == 9 * 6 * (64 + 16)


def test_layer_called_on_different_ranks():
    inputs = [keras.Input((4, 5)), keras.Input((5,))]
    shared = layers.Dense(6, name="shared")
    x = layers.GlobalAveragePooling1D()(shared(inputs[0]))
    x = layers.Concatenate()([x, shared(inputs[1])])
    model = keras.Model(inputs, layers.Dense(3)(x))
    assert_compresses(model)


def test_model_whose_parts_are_shared_with_another():
    base = backbone()
    features = keras.Model(base.input, base.get_layer("join").output)
    inputs = keras.Input((8, 8, 3))
    x = layers.Concatenate()([base(inputs), features(inputs)])
    model = head(inputs, x)
    assert_compresses(model)


def test_two_models_with_layers_of_the_same_names():
    inputs = keras.Input((8, 8, 3))
    x = layers.Add()([backbone(name="a")(inputs), backbone(name="b")(inputs)])
    model = head(inputs, x)
    assert_compresses(model)
    assert {"a/first", "b/first"} <= set(prunable_channels(model))


def test_inputs_and_outputs_by_name(tmp_path):
    inputs = {
        "image": keras.Input((8, 8, 3), name="image"),
        "more": keras.Input((5,), name="more"),
    }
    x = layers.GlobalAveragePooling2D()(conv(inputs["image"], 8))
    x = layers.Concatenate()([x, layers.Dense(6)(inputs["more"])])
    x = layers.Dense(8, activation="relu")(x)
    outputs = {
        "class": layers.Dense(3, name="class")(x),
        "boxes": [layers.Dense(4)(x), layers.Dense(2)(x)],
    }
    model = keras.Model(inputs, outputs)
    small = assert_compresses(model)
    x = random_inputs(model)
    assert set(small(x)) == {"class", "boxes"}
    assert_reloads(small, x, tmp_path / "small.keras")


def test_nested_model_with_several_inputs_and_outputs():
    inputs = [keras.Input((8, 8, 4)), keras.Input((8, 8, 4))]
    x = layers.Add()([conv(x, 6) for x in inputs])
    inner = keras.Model(inputs, [x, conv(x, 5)], name="inner")
    outer = keras.Input((8, 8, 3))
    first, second = inner([conv(outer, 4), conv(outer, 4)])
    model = head(outer, layers.Concatenate()([first, second]))
    assert_compresses(model)


def test_nested_model_with_inputs_by_name():
    inputs = {"a": keras.Input((6,), name="a"), "b": keras.Input((6,))}
    x = layers.Dense(8)(layers.Concatenate()([inputs["a"], inputs["b"]]))
    inner = keras.Model(inputs, {"out": x}, name="inner")
    outer = keras.Input((5,))
    x = inner({"a": layers.Dense(6)(outer), "b": layers.Dense(6)(outer)})
    assert_compresses(keras.Model(outer, layers.Dense(3)(x["out"])))


def test_output_inside_the_network_stays():
    inputs = keras.Input((8, 8, 3))
    x = conv(inputs, 8, name="seen")
    logits = layers.Dense(3)(layers.Flatten()(conv(x, 6)))
    model = keras.Model(inputs, [x, x, logits])
    assert_compresses(model)
    assert prunable_channels(model)["seen"] == 0


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_loaded_models(tmp_path, suffix):
    inputs = keras.Input((8, 8, 3))
    x = backbone()(inputs)
    if suffix == "keras":  # Keras cannot write operations to h5.
        x = ops.relu(x)[:, 1:-1]
    model = head(inputs, x)
    randomize(model)
    model.save(tmp_path / f"model.{suffix}")
    loaded = keras.models.load_model(tmp_path / f"model.{suffix}")
    small = assert_compresses(loaded)
    assert_reloads(small, random_inputs(loaded), tmp_path / "small.keras")


def test_compiled_and_trained_model():
    inputs = keras.Input((8, 8, 3))
    model = head(inputs, backbone()(inputs))
    model.compile("adam", loss=lambda y, p: ops.mean((y - p) ** 2))
    x = random_inputs(model, batch=4)
    model.fit(x, np.zeros((4, 3)), verbose=0)
    small = assert_compresses(model)
    small.compile("sgd", "mse")
    small.fit(x, np.zeros((4, 3)), verbose=0)


def test_compressed_model_can_be_compressed_again():
    inputs = keras.Input((8, 8, 3))
    model = head(inputs, backbone()(inputs))
    randomize(model)
    small = kdf.compress(model, random_plan(model, 5))
    assert_compresses(small)


def test_model_class_with_its_own_training_step():
    class Trainer(keras.Model):
        def train_step(self, data):
            return {"loss": ops.zeros(())}

    inputs = keras.Input((8, 8, 3))
    model = Trainer(inputs, layers.Dense(3)(layers.Flatten()(conv(inputs))))
    small = assert_compresses(model)
    assert type(small) is not Trainer


def test_subclassed_model_within_a_network_is_left_alone():
    @keras.saving.register_keras_serializable("tests")
    class Twice(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(6)

        def call(self, x):
            return 2 * self.dense(x)

        def get_config(self):
            return {"name": self.name}

    inputs = keras.Input((5,))
    x = layers.Dense(6, name="before")(inputs)
    x = layers.Dense(8, name="after")(Twice()(x))
    model = keras.Model(inputs, layers.Dense(3)(x))
    assert_compresses(model)
    channels = prunable_channels(model)
    assert channels["before"] == 0 and channels["after"] == 8


def test_model_that_overrides_its_call_is_left_alone():
    class Doubled(keras.Sequential):
        def call(self, *args, **kwargs):
            return 2 * super().call(*args, **kwargs)

    inner = Doubled([keras.Input((6,)), layers.Dense(6)], name="inner")
    inputs = keras.Input((5,))
    x = inner(layers.Dense(6)(inputs))
    model = keras.Model(inputs, layers.Dense(3)(layers.Dense(5)(x)))
    assert_compresses(model)
    with pytest.raises(ValueError, match="subclassed"):
        kdf.inspect(inner)


def test_compression_leaves_the_graph_of_the_original_alone():
    inputs = keras.Input((8, 8, 3))
    model = head(inputs, ops.relu(backbone()(inputs)))
    randomize(model)
    x = random_inputs(model)
    before = np.asarray(model(x))
    nodes = [len(op._inbound_nodes) for op in model.operations]
    config = model.get_config()
    kdf.compress(model, random_plan(model))
    assert nodes == [len(op._inbound_nodes) for op in model.operations]
    assert config == model.get_config()
    np.testing.assert_array_equal(before, np.asarray(model(x)))


def test_compressed_model_shares_nothing_with_the_original():
    inputs = keras.Input((8, 8, 3))
    model = head(inputs, backbone()(inputs))
    randomize(model)
    x = random_inputs(model)
    small = kdf.compress(model, random_plan(model))
    before = np.asarray(model(x))
    randomize(small, seed=9)
    np.testing.assert_array_equal(before, np.asarray(model(x)))
    assert difference(model, model, x) == 0.0

import keras
import pytest
from keras import layers

from keras_df import count

PUBLISHED_GMACS = {"VGG16": 15.47, "ResNet50": 3.86, "MobileNetV2": 0.30}
MODELS = [*PUBLISHED_GMACS, "InceptionV3", "EfficientNetB0"]


def profiled_flops(model):
    """FLOPs of a sample as TensorFlow's own profiler counts them."""
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    function = tf.function(lambda x: model(x, training=False))
    spec = tf.TensorSpec((1, *model.inputs[0].shape[1:]), "float32")
    frozen = convert_to_constants.convert_variables_to_constants_v2(
        function.get_concrete_function(spec)
    )
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    return profiler.profile(
        frozen.graph, cmd="op", options=options
    ).total_float_ops


needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="compares with TensorFlow's profiler",
)


def test_every_layer_by_hand(chain_model):
    expected = {
        "conv": (64 * 27 * 8, 2 * 64 * 27 * 8 + 512, 27 * 8 + 8),
        "bn": (0, 2 * 512, 4 * 8),
        "relu": (0, 0, 0),
        "depthwise": (64 * 9 * 8, 2 * 64 * 9 * 8 + 512, 9 * 8 + 8),
        "separable": (
            9 * (9 * 8 + 8 * 12),
            2 * 9 * (9 * 8 + 8 * 12) + 9 * 12,
            9 * 8 + 8 * 12 + 12,
        ),
        "pool": (0, 4 * 12, 0),
        "flatten": (0, 0, 0),
        "hidden": (120, 240 + 10, 130),
        "logits": (40, 80 + 4, 44),
    }
    result = count(chain_model)
    actual = {x.name: (x.macs, x.flops, x.params) for x in result.layers}
    assert {name: actual[name] for name in expected} == expected
    for index, resource in enumerate(("macs", "flops", "params")):
        total = sum(amounts[index] for amounts in expected.values())
        assert getattr(result, resource) == total


def test_kinds_are_class_names(chain_model):
    kinds = {x.name: x.kind for x in count(chain_model).layers}
    assert kinds["separable"] == "SeparableConv2D"


def test_parameters_are_those_of_keras(chain_model, residual_model):
    for model in (chain_model, residual_model):
        assert count(model).params == model.count_params()


def test_a_shared_layer_has_its_parameters_once():
    shared = layers.Dense(4)
    first, second = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([first, second], shared(shared(first)) + shared(second))
    assert count(model).params == model.count_params() == 20
    assert count(model).macs == 3 * 16


def test_layers_of_nested_models_have_a_path():
    inner = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="conv")],
        name="inner",
    )
    model = keras.Sequential([keras.Input((8, 8, 3)), inner, layers.Flatten()])
    result = count(model)
    assert "inner/conv" in [x.name for x in result.layers]
    assert result.params == model.count_params()
    assert result.macs == 36 * 27 * 4


def test_an_unknown_size_counts_as_224():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(
        inputs, layers.Conv2D(2, 1, padding="same", use_bias=False)(inputs)
    )
    assert count(model).macs == 224 * 224 * 6


def waveform_network(size, strides):
    inputs = x = keras.Input((size, 1))
    for stride in strides:
        x = layers.Conv1D(8, stride + 1, stride, activation="gelu")(x)
    return keras.Model(inputs, layers.GlobalAveragePooling1D()(x))


@pytest.mark.parametrize(
    "strides, size",
    [((5, 2, 2), 224), ((5, 2, 2, 2, 2, 2, 2), 1024), (6 * (4,), 16384)],
)
def test_an_unknown_size_counts_as_one_that_fits(strides, size):
    expected = count(waveform_network(size, strides))
    result = count(waveform_network(None, strides))
    assert [x.macs for x in result.layers] == [x.macs for x in expected.layers]
    assert (result.macs, result.flops) == (expected.macs, expected.flops)


def test_an_unknown_size_counts_as_224_where_no_size_fits():
    inputs = keras.Input((None, 3))
    x = layers.Conv1D(4, 3, padding="same", use_bias=False)(inputs)
    x = layers.Reshape((-1, 5, 4))(x)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    assert count(model).macs == 224 * 3 * 3 * 4


def test_str_names_the_three_totals(chain_model):
    text = str(count(chain_model))
    assert text == "20,104 MACs, 42,426 FLOPs, 690 parameters"


def test_what_has_no_graph_is_refused():
    with pytest.raises(TypeError, match=r"Expected a `keras\.Model`"):
        count(layers.Dense(3))
    with pytest.raises(ValueError, match="is not built"):
        count(keras.Sequential([layers.Dense(3)]))


@needs_tensorflow
def test_flops_are_those_of_the_profiler(chain_model, residual_model):
    for model in (chain_model, residual_model):
        expected = profiled_flops(model)
        assert count(model).flops == pytest.approx(expected, rel=0.01)


@pytest.mark.slow
@needs_tensorflow
@pytest.mark.parametrize("name", MODELS)
def test_known_networks(name):
    model = getattr(keras.applications, name)(weights=None)
    result = count(model)
    assert result.params == model.count_params()
    if name in PUBLISHED_GMACS:
        assert round(result.macs / 1e9, 2) == PUBLISHED_GMACS[name]
    assert result.flops == pytest.approx(profiled_flops(model), rel=0.01)

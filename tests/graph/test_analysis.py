"""The analysis of whole models."""

import keras
import numpy as np
import pytest
from invariant import all_reasons
from invariant import prunable_channels
from keras import layers
from keras import ops

import keras_df as kdf
from keras_df.graph import analyze
from keras_df.graph.analysis import UNKNOWN_SIZE
from keras_df.graph.analysis import UNWRITTEN
from keras_df.graph.channels import INPUT
from keras_df.graph.channels import OUTPUT


def units_written(graph, path):
    return graph.units[graph.nodes[path].kernel.outputs[1]]


def units_read(graph, path):
    return graph.units[graph.nodes[path].kernel.inputs[1]]


def test_residual_addition_couples(residual_model):
    graph = analyze(residual_model)
    np.testing.assert_array_equal(
        units_written(graph, "stem"), units_written(graph, "block1_conv2")
    )
    inner = units_written(graph, "block1_conv1")
    assert not set(inner) & set(units_written(graph, "stem"))


def test_padded_shortcut_couples_the_channels_that_it_meets(residual_model):
    graph = analyze(residual_model)
    wide = units_written(graph, "block2_conv2")
    np.testing.assert_array_equal(wide[4:12], units_written(graph, "stem"))
    np.testing.assert_array_equal(wide, units_written(graph, "block3_conv2"))
    assert graph.prunable[wide].all()


def test_units_stay_with_the_channels_that_all_their_writers_keep(
    residual_model,
):
    graph = analyze(residual_model)
    stem = units_written(graph, "stem")
    first = np.arange(1, len(stem))
    last = np.arange(len(stem) - 1)
    kept = graph.units_kept({"stem": first, "block1_conv2": last})
    expected = np.ones(graph.unit_count, bool)
    expected[stem[[0, -1]]] = False
    np.testing.assert_array_equal(kept, expected)


def test_consumers_read_what_producers_write(chain_model):
    graph = analyze(chain_model)
    np.testing.assert_array_equal(
        units_read(graph, "separable"), units_written(graph, "conv")
    )
    width = len(units_written(graph, "separable"))
    read = units_read(graph, "hidden").reshape(-1, width)
    assert (read == units_written(graph, "separable")).all()


def test_inputs_and_outputs_stay(chain_model):
    graph = analyze(chain_model)
    logits = units_written(graph, "logits")
    assert {graph.reasons[int(unit)] for unit in logits} == {OUTPUT}
    read = units_read(graph, "conv")
    assert {graph.reasons[int(unit)] for unit in read} == {INPUT}


def test_constant_channels_without_a_writer_stay():
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(3, 1)(inputs)
    x = ops.pad(x, [[0, 0], [0, 0], [0, 0], [0, 2]])
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="last")(x))
    graph = analyze(model)
    read = units_read(graph, "last")
    assert graph.prunable[read].tolist() == [True] * 3 + [False] * 2
    assert graph.reasons[int(read[4])] == UNWRITTEN


def test_every_frozen_unit_has_a_reason(chain_model):
    graph = analyze(chain_model)
    frozen = np.flatnonzero(~graph.prunable)
    assert len(frozen) and all(graph.reasons[int(unit)] for unit in frozen)


def test_analysis_does_not_modify_the_model(residual_model):
    nodes = [len(op._inbound_nodes) for op in residual_model.operations]
    analyze(residual_model)
    assert nodes == [len(op._inbound_nodes) for op in residual_model.operations]


def test_kernels_in_order_of_execution(chain_model):
    assert list(analyze(chain_model).kernels()) == [
        "conv",
        "separable",
        "hidden",
        "logits",
    ]


def test_unknown_sizes_are_assumed():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.Conv2D(4, 1)(inputs))
    graph = analyze(model)
    assert graph.outputs[0].shape == (None, UNKNOWN_SIZE, UNKNOWN_SIZE, 4)
    assert kdf.count(model).macs == UNKNOWN_SIZE**2 * 12


def test_assumed_size_that_does_not_fit_is_no_error():
    inputs = keras.Input((None, 3))
    x = layers.Conv1D(4, 3, padding="same", name="conv")(inputs)
    x = layers.Reshape((-1, 5, 4))(x)
    x = layers.Conv2D(4, 1, name="second")(x)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    assert set(prunable_channels(model)) == {"conv", "second"}


def test_custom_layer_that_cannot_infer_shapes_again_is_no_error():
    class Once(layers.Layer):
        calls = 0

        def compute_output_spec(self, x, training=None):
            self.calls += 1
            if self.calls > 1:
                raise RuntimeError("once is enough")
            return keras.KerasTensor(x.shape)

        def call(self, x):
            return x

    inputs = keras.Input((4,))
    x = Once()(layers.Dense(6, name="dense")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    assert prunable_channels(model)["dense"] == 0


def test_reasons_name_the_layer():
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(6, 1, name="conv")(inputs)
    x = layers.LayerNormalization(name="across")(x)
    model = keras.Model(inputs, layers.Conv2D(2, 1)(x))
    graph = analyze(model)
    reasons = {graph.reasons[int(u)] for u in units_written(graph, "conv")}
    assert reasons == {"`across` reads across channels"}


@pytest.mark.parametrize("model", [None, "model", layers.Dense(3)])
def test_only_models_are_analysed(model):
    with pytest.raises(TypeError, match=r"Expected a `keras\.Model`"):
        analyze(model)


def test_subclassed_models_are_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="subclassed"):
        analyze(Own(name="own"))


def test_model_of_inputs_only():
    inputs = keras.Input((4,))
    graph = analyze(keras.Model(inputs, inputs))
    assert graph.unit_count == 0 and all_reasons(graph) == []

import keras
import numpy as np
import pytest
from keras import layers

import keras_df as kdf
from keras_df.budgets.cost import Rates
from keras_df.export import latency_fit
from keras_df.export import measure_latency
from keras_df.export.interpreter import make_interpreter
from keras_df.export.latency_table import _points
from keras_df.export.latency_table import _roles
from keras_df.export.operators import operator_file
from keras_df.graph import analyze

pytest.importorskip("scipy")


def network(size=16, inner="float32"):
    inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(24, 3, padding="same", name="stem")(inputs)
    y = layers.Conv2D(24, 3, padding="same", name="inner", dtype=inner)(x)
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Conv2D(16, 3, groups=4, name="grouped")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(5, name="logits")(x))


@pytest.fixture(scope="module")
def measured():
    model = network()
    return model, measure_latency(model, repeats=5, verbose=False)


def test_every_layer_that_multiplies_is_in_the_table(measured):
    _, table = measured
    assert set(table.kernels) == {"stem", "inner", "grouped", "logits"}
    assert set(table.operators) == {"depthwise"}
    assert set(table.kernels["inner"]) == {"dense", "1", "2"}
    assert set(table.kernels["logits"]) == {"dense", "1"}
    assert set(table.kernels["grouped"]) == {"dense"}
    values = keras.tree.flatten((table.kernels, table.operators))
    assert np.isfinite(values).all() and min(values) >= 0


def test_networks_are_predicted_about_right(measured):
    _, table = measured
    measured_times, predicted = np.array(table.networks).T
    assert len(measured_times) >= 4
    # A busy machine: an order of magnitude is what can be asked here.
    assert (predicted / measured_times > 0.4).all()
    assert (predicted / measured_times < 2.5).all()


def test_a_measured_table_plans(measured):
    model, table = measured
    plan = kdf.baselines.random(model, kdf.Latency(0.8, table))
    before, after = plan.costs["latency"]
    assert 0 < after <= 0.8 * before


def test_a_measured_table_knows_its_size_of_input(measured):
    _, table = measured
    budget = kdf.Latency(0.8, table)
    kdf.baselines.random(network(), budget)
    with pytest.raises(ValueError, match="inputs of another size"):
        kdf.baselines.random(network(24), budget)


def test_the_table_is_written(measured, tmp_path):
    _, table = measured
    table.save(tmp_path / "table.json")
    assert kdf.LatencyTable.load(tmp_path / "table.json") == table


def test_the_file_of_an_operator_takes_and_gives_the_channels():
    roles = _roles(analyze(network()))
    for operator, inputs, outputs in _points(roles):
        interpreter = make_interpreter(operator_file(operator, inputs, outputs))
        interpreter.allocate_tensors()
        (read,) = interpreter.get_input_details()
        (written,) = interpreter.get_output_details()
        assert tuple(read["shape"]) == (1, *operator.sizes, inputs)
        # An operator that is measured as it is has no number of outputs.
        assert not outputs or written["shape"][-1] == outputs


def test_operators_that_compute_the_same_are_measured_once():
    roles = _roles(analyze(network()))
    same = roles["inner"][("dense", 0)][0]
    assert same.key == roles["stem"][("dense", 0)][0].key
    assert same.key == roles["inner"][("1", 0)][0].key
    points = [p for p in _points(roles) if p[0].key == same.key]
    assert len(points) == 9
    # They reach up to the largest of all that share them.
    assert max(p[1] for p in points) == 24
    assert max(p[2] for p in points) == 24


@pytest.mark.parametrize("tile", [1, 8, 16])
def test_the_fit_recovers_a_known_machine(tile):
    rng = np.random.default_rng(0)
    truth = {k: rng.uniform(0.1, 1.0, 4) for k in ("a", "b", "c")}
    samples = {
        key: np.array(
            [
                (i, o, Rates(*rates, tile=tile).cost(i, o))
                for i in (3, 10, 33)
                for o in (5, 17, 30, 40)
            ]
        )
        for key, rates in truth.items()
    }
    found, fitted = latency_fit._best_tile(samples)
    assert found == tile
    for key, rates in truth.items():
        np.testing.assert_allclose(fitted[key], rates, rtol=1e-4, atol=1e-4)


def test_whole_operators_of_other_widths_are_measured_apart():
    inputs = keras.Input((16, 16, 8))
    x = layers.DepthwiseConv2D(3, padding="same")(inputs)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.DepthwiseConv2D(3, padding="same")(layers.Conv2D(64, 1)(x))
    x = layers.Reshape((16, 16 * 64))(x)
    outputs = [layers.LSTM(4)(x), layers.LSTM(16)(x)]
    points = _points(_roles(analyze(keras.Model(inputs, outputs))))
    widths = sorted(n for _, n, outputs in points if not outputs)
    assert widths == [8, 64, 1024, 1024]


def test_networks_that_do_not_follow_their_operators_are_refused():
    model = network()
    roles = _roles(analyze(model))
    points = _points(roles)
    operators = latency_fit.fit_operators(
        analyze(model), roles, points, np.linspace(1.0, 9.0, len(points))
    )
    plans = [None] + [kdf.baselines.random(model, kdf.MACs(0.5))] * 2
    noise = np.array([50.0, 90.0, 90.0])
    table = latency_fit.calibrate(analyze(model), operators, plans, noise)
    with pytest.raises(RuntimeError, match="took 50.0, 90.0, 90.0 micro"):
        latency_fit.check_scale(table)
    latency_fit.check_scale(operators)


def test_a_model_in_mixed_precision_is_measured_in_float32():
    model = network(inner="mixed_float16")
    table = measure_latency(model, repeats=5, verbose=False)
    plan = kdf.baselines.random(model, kdf.Latency(0.8, table))
    before, after = plan.costs["latency"]
    assert 0 < after <= 0.8 * before


def test_channels_first_is_refused():
    model = keras.Sequential(
        [
            keras.Input((3, 8, 8)),
            layers.Conv2D(4, 3, data_format="channels_first", name="first"),
        ]
    )
    with pytest.raises(ValueError, match="'first'.*channels_first"):
        measure_latency(model)

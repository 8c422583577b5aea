"""Sequential reconstruction against least squares by NumPy."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_df as kdf
from keras_df.surgery.reconstruction import Fit


def samples(seed=0, count=400, mean=0.0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(6, 6))
    return (rng.normal(size=(count, 6)) @ mixing + mean).astype("float32")


def fitted(inputs, targets, prior, is_centered):
    fit = Fit(prior, is_centered)
    half = len(inputs) // 2
    for part in (slice(None, half), slice(half, None)):
        fit.add(
            keras.ops.convert_to_tensor(inputs[part]),
            keras.ops.convert_to_tensor(targets[part]),
        )
    matrix, moment = fit.solve()
    return matrix, moment, fit.shift(matrix)


@pytest.mark.parametrize("is_centered", [True, False])
def test_the_fit_is_the_least_squares_solution(is_centered):
    """Augmented with rows that pull towards the prior."""
    inputs, prior = samples(mean=1.0), np.ones((6, 2))
    targets = samples(1)[:, :2] + inputs[:, :2]
    matrix, moment, shift = fitted(inputs, targets, prior, is_centered)
    x, y = inputs.astype(float), targets.astype(float)
    if is_centered:
        x, y = x - x.mean(0), y - y.mean(0)
    plain = x.T @ x / len(x)
    ridge = 0.01 * (1 + 10 * 6 / 400) * np.trace(plain) / 6
    rows = np.concatenate([x / np.sqrt(len(x)), np.sqrt(ridge) * np.eye(6)])
    goal = np.concatenate([y / np.sqrt(len(y)), np.sqrt(ridge) * prior])
    expected, *_ = np.linalg.lstsq(rows, goal, rcond=None)
    np.testing.assert_allclose(matrix, expected, atol=1e-4)
    np.testing.assert_allclose(moment, plain + ridge * np.eye(6), atol=1e-3)
    np.testing.assert_allclose(
        shift, targets.mean(0) - inputs.mean(0) @ matrix, atol=1e-4
    )


def test_a_kernel_that_is_already_right_stays():
    inputs, prior = samples(), np.random.default_rng(2).normal(size=(6, 3))
    targets = (inputs @ prior).astype("float32")
    matrix, _, shift = fitted(inputs, targets, prior, is_centered=True)
    np.testing.assert_allclose(matrix, prior, atol=1e-4)
    np.testing.assert_allclose(shift, 0, atol=1e-4)


def test_inputs_that_are_all_zero_leave_the_kernel_as_it_is():
    prior = np.ones((6, 2))
    zeros = np.zeros((8, 6), "float32")
    matrix, _, _ = fitted(zeros, zeros[:, :2], prior, is_centered=True)
    np.testing.assert_allclose(matrix, prior)


@pytest.mark.parametrize("value", [0.2, 1.0, 128.0])
def test_inputs_that_never_vary_leave_the_kernel_as_it_is(value):
    prior = np.random.default_rng(0).normal(size=(6, 2))
    inputs = np.full((5000, 6), value, "float32")
    inputs *= np.linspace(0.3, 1.7, 6, dtype="float32")
    targets = (inputs @ np.ones((6, 2)) / 3).astype("float32")
    matrix, _, shift = fitted(inputs, targets, prior, is_centered=True)
    np.testing.assert_allclose(matrix, prior, atol=1e-2)
    expected = targets[0] - inputs[0] @ prior
    np.testing.assert_allclose(shift, expected, atol=2e-2 * max(value, 1))


def test_an_input_that_is_constant_in_calibration_alone():
    picture, camera = keras.Input((12,)), keras.Input((4,))
    hidden = [layers.Dense(16, activation="relu")(x) for x in (picture, camera)]
    hidden = [layers.Dense(16, activation="relu")(x) for x in hidden]
    outputs = layers.Dense(3)(layers.Concatenate()(hidden))
    model = keras.Model([picture, camera], outputs)
    plan = kdf.baselines.magnitude(model, kdf.MACs(0.7))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 12)).astype("float32")
    seen = [x, np.full((256, 4), 0.7, "float32")]
    other = [x, rng.normal(size=(256, 4)).astype("float32")]
    plain = kdf.compress(model, plan)
    fitted = kdf.compress(model, plan, calibration=seen)

    def error(small, inputs):
        return np.abs(np.asarray(small(inputs)) - model(inputs)).mean()

    assert error(fitted, seen) < error(plain, seen)
    assert error(fitted, other) < 1.1 * error(plain, other)


def dense_network():
    """Hidden units of which two compute the same."""
    inputs = keras.Input((6,))
    x = layers.Dense(4, activation="relu", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(3, name="logits")(x))
    kernel, bias = model.get_layer("hidden").get_weights()
    kernel[:, 1] = 2 * kernel[:, 0]
    model.get_layer("hidden").set_weights([kernel, bias])
    return model


def plan_without(model, layer, channel):
    plan = kdf.baselines.random(
        model, kdf.MACs(1.0), constraints=kdf.Constraints()
    )
    config = plan.get_config()
    entry = config["layers"][layer]
    entry["kept"] = [x for x in range(entry["channels"]) if x != channel]
    for other in config["layers"].values():
        other["rank"] = None
    return kdf.CompressionPlan.from_config(config)


def error(small, model, x):
    return float(np.mean((small.predict(x) - model.predict(x)) ** 2))


@pytest.fixture(autouse=True)
def quiet():
    keras.utils.disable_interactive_logging()
    yield
    keras.utils.enable_interactive_logging()


def test_consumers_make_up_for_a_channel_that_another_repeats():
    model, x = dense_network(), samples(mean=0.5)
    plan = plan_without(model, "hidden", 1)
    sliced = kdf.compress(model, plan)
    fitted = kdf.compress(model, plan, calibration=x)
    assert error(sliced, model, x) > 0.01
    assert error(fitted, model, x) < 0.05 * error(sliced, model, x)


def test_the_mean_of_a_removed_channel_goes_into_the_bias():
    """The channel is constant on the data, so nothing is lost."""
    model, x = dense_network(), samples()
    hidden = model.get_layer("hidden")
    kernel, bias = hidden.get_weights()
    kernel[:, 2], bias[2] = 0, 3.0
    hidden.set_weights([kernel, bias])
    plan = plan_without(model, "hidden", 2)
    fitted = kdf.compress(model, plan, calibration=x)
    assert error(kdf.compress(model, plan), model, x) > 0.1
    assert error(fitted, model, x) < 1e-6


@pytest.mark.parametrize("scheme", [1, 2])
def test_errors_of_layers_before_are_made_up_for(residual_model, scheme):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 8, 8, 3)).astype("float32")
    kdf.recalibrate(residual_model, x)
    plan = kdf.baselines.energy(
        residual_model,
        kdf.MACs(0.5),
        calibration=x,
        constraints=kdf.Constraints(scheme=scheme),
    )
    errors = {}
    for mode in ("independent", "sequential"):
        small = kdf.compress(
            residual_model, plan, calibration=x, reconstruction=mode
        )
        kdf.recalibrate(small, x)
        errors[mode] = error(small, residual_model, x)
    assert errors["sequential"] < 0.9 * errors["independent"]


def test_sequential_statistics_are_those_of_recalibration(residual_model):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(128, 8, 8, 3)).astype("float32")
    plan = kdf.baselines.magnitude(residual_model, kdf.MACs(0.5))
    small = kdf.compress(residual_model, plan, calibration=x)
    norm = small.get_layer("stem_bn")
    before = np.asarray(norm.moving_mean).copy()
    kdf.recalibrate(small, x)
    np.testing.assert_allclose(np.asarray(norm.moving_mean), before, atol=1e-4)


def test_nothing_removed_changes_nothing(residual_model):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(128, 8, 8, 3)).astype("float32")
    kdf.recalibrate(residual_model, x)
    plan = kdf.baselines.random(residual_model, kdf.MACs(1.0))
    small = kdf.compress(residual_model, plan, calibration=x)
    scale = np.abs(residual_model.predict(x)).max()
    assert error(small, residual_model, x) < (1e-3 * scale) ** 2


def test_an_unknown_reconstruction_is_refused(residual_model):
    plan = kdf.baselines.random(residual_model, kdf.MACs(0.5))
    with pytest.raises(ValueError, match="reconstruction='best'"):
        kdf.compress(residual_model, plan, reconstruction="best")


def test_the_mean_of_what_a_pair_loses_goes_into_the_bias():
    """Inputs far from zero, of which a rank of 2 keeps too little."""
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(24, name="wide")(inputs))
    x = samples(mean=3.0)
    plan = kdf.baselines.uniform_rank(model, kdf.MACs(0.45))
    assert plan.layers["wide"].rank == 2
    small = kdf.compress(model, plan, calibration=x)
    difference = small.predict(x) - model.predict(x)
    np.testing.assert_allclose(difference.mean(0), 0, atol=1e-4)


def test_a_shift_before_an_activation_is_no_business_of_the_normalization():
    """Without a bias, it is the kernel that has to make up for the mean."""
    inputs = keras.Input((6,))
    x = layers.Dense(8, name="before")(inputs)
    x = layers.Dense(8, activation="relu", use_bias=False, name="active")(x)
    x = layers.BatchNormalization()(x)
    model = keras.Model(inputs, layers.Dense(3, name="logits")(x))
    hidden, bias = model.get_layer("before").get_weights()
    # Two channels that differ by their mean, of which one goes.
    hidden[:, 1], bias[:2] = hidden[:, 0], (0.0, 4.0)
    model.get_layer("before").set_weights([hidden, bias])
    x = samples()
    kdf.recalibrate(model, x)
    small = kdf.compress(model, plan_without(model, "before", 0), calibration=x)
    rows, kept = (
        keras.Model(m.inputs[0], m.get_layer("before").output).predict(x)
        for m in (model, small)
    )
    goal = rows @ model.get_layer("active").get_weights()[0]
    kernel = small.get_layer("active").get_weights()[0]
    assert np.abs(np.mean(kept @ kernel - goal, axis=0)).max() < 0.05


def test_a_transposed_convolution_serves_what_its_outputs_are_scaled_by():
    """Windows do not overlap here, so the optimum is a weighted SVD."""
    inputs = keras.Input((4, 4, 6))
    up = layers.Conv2DTranspose(5, 2, strides=2, use_bias=False, name="up")
    norm = layers.BatchNormalization()
    model = keras.Model(inputs, norm(up(inputs)))
    gamma = np.geomspace(0.05, 5, 5)
    norm.gamma.assign(gamma)
    x = samples(count=64 * 16).reshape(64, 4, 4, 6)
    plan = kdf.baselines.energy(model, kdf.MACs(0.5), calibration=x)
    small = kdf.compress(
        model, plan, calibration=x, reconstruction="independent"
    )
    kernel = np.asarray(up.kernel, float).transpose(3, 0, 1, 2).reshape(6, -1)
    outputs = x.reshape(-1, 6).astype(float) @ kernel
    sigma = np.linalg.svd(outputs * np.tile(gamma, 4), compute_uv=False)
    rank = plan.layers["up"].rank
    optimum = np.sum(sigma[rank:] ** 2) / outputs.size
    assert 0 < rank < 5
    assert error(small, model, x) == pytest.approx(optimum, rel=0.05)

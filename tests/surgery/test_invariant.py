"""The invariant of surgery on well-known architectures."""

import os

import keras
import numpy as np
import pytest
from invariant import TOLERANCE
from invariant import assert_compresses
from invariant import difference
from invariant import random_inputs
from invariant import randomize
from invariant import untouched_plan

import keras_df as kdf

SHARED = os.path.join("..", "shared", "models")


def check(model, inputs, budgets=(0.8, 0.5), seeds=(0, 1)):
    for budget in budgets:
        for seed in seeds:
            plan = kdf.baselines.random(model, kdf.FLOPs(budget), seed=seed)
            small = kdf.compress(model, plan)
            reference = kdf.surgery.zeroed_consumers(model, plan)
            assert difference(small, reference, inputs) <= TOLERANCE
            assert kdf.count(small).flops == plan.costs["flops"][1]


def test_residual_network_computes_what_its_zeroed_original_does(
    residual_model,
):
    randomize(residual_model)
    check(residual_model, random_inputs(residual_model), (0.9, 0.6, 0.3))


def test_chain_computes_what_its_zeroed_original_does(chain_model):
    randomize(chain_model)
    check(chain_model, random_inputs(chain_model), (0.9, 0.6, 0.3))


def test_random_selections_keep_the_invariant(residual_model):
    assert_compresses(residual_model, seeds=range(4))


def test_reference_with_nothing_removed_is_the_original(chain_model):
    randomize(chain_model)
    plan = untouched_plan(chain_model)
    reference = kdf.surgery.zeroed_consumers(chain_model, plan)
    inputs = random_inputs(chain_model)
    assert difference(reference, chain_model, inputs) == 0.0


def test_reference_zeroes_what_consumers_read():
    inputs = keras.Input((3,))
    x = keras.layers.Dense(4, use_bias=True, name="hidden")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2, name="out")(x))
    randomize(model)
    config = untouched_plan(model).get_config()
    config["layers"]["hidden"]["kept"] = [0, 2]
    plan = kdf.CompressionPlan.from_config(config)
    reference = kdf.surgery.zeroed_consumers(model, plan)
    kernel = np.asarray(reference.get_layer("out").kernel)
    original = np.asarray(model.get_layer("out").kernel)
    np.testing.assert_array_equal(kernel[[1, 3]], 0.0)
    np.testing.assert_array_equal(kernel[[0, 2]], original[[0, 2]])
    np.testing.assert_array_equal(
        np.asarray(reference.get_layer("hidden").kernel),
        np.asarray(model.get_layer("hidden").kernel),
    )


def test_reference_truncates_the_pruned_kernel():
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, name="hidden")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(8, name="out")(x))
    randomize(model)
    config = untouched_plan(model).get_config()
    config["layers"]["hidden"]["kept"] = [0, 1, 2, 5, 7]
    config["layers"]["out"]["rank"] = 2
    plan = kdf.CompressionPlan.from_config(config)
    reference = kdf.surgery.zeroed_consumers(model, plan)
    kernel = np.asarray(reference.get_layer("out").kernel)
    assert np.linalg.matrix_rank(kernel, tol=1e-5) == 2
    np.testing.assert_allclose(kernel[[3, 4, 6]], 0.0, atol=1e-6)


@pytest.mark.parametrize("name", ["resnet20_cifar10", "resnet56_cifar10"])
def test_trained_networks_keep_the_invariant(name):
    path = os.path.join(SHARED, f"{name}.keras")
    if not os.path.exists(path):
        pytest.skip("the trained networks are not here")
    model = keras.models.load_model(path)
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3))
    deep = name.startswith("resnet56")
    check(model, images, (0.5,), (0,) if deep else (0, 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, size",
    [
        ("ResNet50", 64),
        ("VGG16", 64),
        ("MobileNetV2", 64),
        ("EfficientNetB0", 64),
    ],
)
def test_application_keeps_the_invariant(name, size):
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classifier_activation=None
    )
    randomize(model)
    check(model, random_inputs(model), (0.7, 0.4))

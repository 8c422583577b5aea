"""Plans of the CIFAR-10 example, made for a small network and noise."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

import keras_df as kdf

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


@pytest.fixture
def two_stage_plan(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from cifar10_search import two_stage_plan

    return two_stage_plan


def test_two_stages_prune_and_decompose_within_the_budget(
    two_stage_plan, residual_model
):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 8, 8, 3)).astype("float32")
    y = rng.integers(0, 5, 64)
    train = tf.data.Dataset.from_tensor_slices((x, y)).repeat().batch(16)
    plan = two_stage_plan(residual_model, train, 0.4, steps=20, samples=x)
    small = kdf.compress(residual_model, plan, calibration=x)
    share = kdf.count(small).macs / kdf.count(residual_model).macs
    assert 0.37 < share <= 0.4
    assert plan.costs["macs"][1] == kdf.count(small).macs
    layers = plan.layers.values()
    assert any(len(layer.kept) < layer.channels for layer in layers)
    assert any(layer.rank is not None for layer in layers)

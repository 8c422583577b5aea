import argparse

import keras
import numpy as np
import pytest
from keras import layers

from keras_df.cli.console import UsageError
from keras_df.cli.data import Data
from keras_df.cli.task import REGRESSIONS
from keras_df.cli.task import Task
from keras_df.cli.task import find_task


def network(outputs=3, activation=None, last=None):
    parts = [keras.Input((4,)), layers.Dense(outputs, activation)]
    return keras.Sequential(parts + ([last] if last else []))


def data(targets):
    import tensorflow as tf

    x = np.zeros((len(targets), 4), "float32")
    batches = tf.data.Dataset.from_tensor_slices((x, targets)).batch(2)
    return Data(batches, batches)


def flags(loss=None, from_logits=None):
    return argparse.Namespace(loss=loss, from_logits=from_logits, quiet=True)


LABELS = np.array([0, 2, 1, 0])
ONE_HOT = np.eye(3, dtype="float32")[LABELS]


@pytest.mark.parametrize(
    "model, targets, expected",
    [
        (
            network(),
            LABELS,
            Task("sparse_categorical_crossentropy", True),
        ),
        (
            network(activation="softmax"),
            LABELS[:, None],
            Task("sparse_categorical_crossentropy", False),
        ),
        (
            network(last=layers.Softmax()),
            ONE_HOT,
            Task("categorical_crossentropy", False),
        ),
        (
            network(3, "softmax", last=layers.Activation("linear")),
            LABELS,
            Task("sparse_categorical_crossentropy", False),
        ),
        (network(), ONE_HOT, Task("categorical_crossentropy", True)),
        (
            network(1, "sigmoid"),
            LABELS > 0,
            Task("binary_crossentropy", False),
        ),
        (
            keras.Sequential([keras.Input((4,)), network(3, "softmax")]),
            LABELS,
            Task("sparse_categorical_crossentropy", False),
        ),
    ],
)
def test_the_loss_that_a_model_and_its_targets_call_for(
    model, targets, expected
):
    assert find_task(flags(), model, data(targets)) == expected


@pytest.mark.parametrize(
    "model, targets",
    [
        (network(), ONE_HOT + 0.5),
        (network(1), LABELS),
        (network(activation="relu"), LABELS),
        (network(activation="sigmoid"), LABELS),
        (network(last=layers.ReLU()), LABELS),
        (network(), LABELS.astype("float32")),
    ],
)
def test_a_loss_that_is_not_clear_has_to_be_named(model, targets):
    with pytest.raises(UsageError, match="Say which --loss"):
        find_task(flags(), model, data(targets))
    task = find_task(flags("mean_squared_error"), model, data(targets))
    assert task == Task("mean_squared_error", False)


def test_flags_win():
    task = find_task(flags(from_logits=False), network(), data(LABELS))
    assert task == Task("sparse_categorical_crossentropy", False)
    task = find_task(flags("binary_crossentropy"), network(), data(ONE_HOT))
    assert task == Task("binary_crossentropy", True)


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_labels_beyond_the_outputs_are_refused(labels):
    with pytest.raises(ValueError, match="within 0 and 2"):
        find_task(flags(), network(), data(np.array(labels)))


def test_scores_are_those_of_the_metric():
    model = network(1)
    model.layers[0].set_weights([np.zeros((4, 1)), np.full(1, 0.2)])
    binary = Task("binary_crossentropy", from_logits=True)
    targets = np.array([[1.0], [1.0], [0.0], [1.0]])
    # The logit 0.2 says 1, though it is below one half.
    assert binary.evaluate(model, data(targets).test) == 0.75


@pytest.mark.parametrize("loss", REGRESSIONS)
def test_scores_of_a_regression_are_its_losses(loss):
    model = network(1)
    model.layers[0].set_weights([np.zeros((4, 1)), np.full(1, 0.2)])
    targets = np.array([[1.0], [3.0], [0.0], [1.0]])
    error = np.abs(targets - 0.2)
    expected = {
        "mean_squared_error": error**2,
        "mean_absolute_error": error,
        "huber": np.where(error < 1, error**2 / 2, error - 0.5),
    }[loss]
    found = Task(loss).evaluate(model, data(targets).test)
    assert found == pytest.approx(np.mean(expected), 1e-5)
    assert Task(loss).metric == loss

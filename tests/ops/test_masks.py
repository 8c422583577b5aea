import numpy as np
import pytest

from keras_df.ops.masks import scheduled_sigmoid
from keras_df.ops.masks import soft_count

LOGITS = np.array([0.0, 0.2, 0.5, 0.9, 1.0], "float32")


@pytest.mark.parametrize("steepness", [0.5, 2.0, 10.0, 200.0])
def test_the_mask_is_equation_8(steepness):
    expected = 1 / (1 + np.exp(-steepness * (LOGITS.astype(float) - 0.5)))
    actual = scheduled_sigmoid(LOGITS, steepness)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-30)


def test_a_steep_mask_is_a_step_at_one_half():
    mask = np.asarray(scheduled_sigmoid(LOGITS, 1e4))
    np.testing.assert_allclose(mask, [0, 0, 0.5, 1, 1], atol=1e-6)


def test_the_gradient_of_the_mask(gradients):
    def total(logits):
        return soft_count(scheduled_sigmoid(logits, 3.0))

    (actual,) = gradients(total, LOGITS)
    mask = 1 / (1 + np.exp(-3.0 * (LOGITS.astype(float) - 0.5)))
    np.testing.assert_allclose(actual, 3.0 * mask * (1 - mask), rtol=1e-5)


def test_soft_count_of_a_binary_mask_is_the_count():
    assert float(soft_count(np.array([1, 0, 1, 1, 0], "float32"))) == 3
    assert float(soft_count(np.array([1.0, 0.25, 0.5], "float32"))) == 1.75

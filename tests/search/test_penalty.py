import keras
import numpy as np
import pytest
from search_helpers import compiled
from search_helpers import separable_data
from search_helpers import small_network

import keras_df as kdf
from keras_df.search.penalty import Penalty

PENALTY = kdf.SearchConfig().penalty
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def searched(loss, epochs=6, **options):
    """A search of `small_network`, always the same but for its loss."""
    keras.utils.set_random_seed(0)
    config = kdf.SearchConfig(**options)
    search = kdf.SearchModel(small_network(), kdf.MACs(0.4), config=config)
    # Adam is blind to the size of gradients, but for its epsilon.
    search.compile(keras.optimizers.Adam(2.5e-2, epsilon=1e-12), loss)
    x, y = separable_data()
    search.fit(x, y, batch_size=32, epochs=epochs, shuffle=False, verbose=0)
    return search


def scaled(factor):
    return lambda y, y_pred: factor * LOSS(y, y_pred)


@pytest.fixture(scope="module")
def plain():
    return searched(scaled(1.0))


@pytest.mark.parametrize("factor", [1e-2, 1e3])
def test_what_the_loss_is_multiplied_by_changes_nothing(plain, factor):
    search = searched(scaled(factor))
    for old, new in zip(
        plain.trainable_variables, search.trainable_variables, strict=True
    ):
        np.testing.assert_allclose(array(old), array(new), atol=1e-4)
    assert search.plan().costs == plain.plan().costs


def test_a_constant_weight_loses_sight_of_the_budget_under_a_large_loss():
    search = searched(scaled(1e4), epochs=12, penalty_unit="one")
    assert abs(array(search.shares)[0] - 0.4) > 0.1


def test_a_loss_that_is_zero_still_leaves_the_budget_to_reach():
    search = searched(scaled(0.0), epochs=20)
    assert array(search.shares)[0] == pytest.approx(0.4, abs=0.05)


def test_the_unit_is_the_running_mean_of_the_loss():
    search = compiled(kdf.SearchModel(small_network(), kdf.MACs(0.4)))
    x, y = separable_data(32)
    mean = None
    for step in range(1, 13):
        weight = max(float(array(search.penalty.unit)), 1e-4)
        history = search.fit(x, y, batch_size=32, epochs=1, verbose=0).history
        # The first step starts on target, the schedule of one step ends there.
        distance = abs(array(search.shares)[0] - 0.4) if step > 1 else 0.0
        loss = history["loss"][0] - PENALTY * weight * distance
        mean = loss if step == 1 else mean + max(1 / step, 0.1) * (loss - mean)
        assert float(array(search.penalty.unit)) == pytest.approx(
            mean, rel=1e-3
        )


@pytest.mark.parametrize("unit, expected", [("one", 0.1), ("loss", 0.25)])
def test_the_term_is_the_distance_times_weight_and_unit(unit, expected):
    penalty = Penalty(kdf.SearchConfig(penalty=5.0, penalty_unit=unit))
    penalty.unit.assign(2.5)
    found = penalty(keras.ops.convert_to_tensor(np.float32(0.02)))
    assert float(array(found)) == pytest.approx(expected, rel=1e-3)
    # A sum of all losses, in the third step.
    penalty.observe(found + 4.0, [found], 3.0)
    assert float(array(penalty.unit)) == pytest.approx(2.5 + 1.5 / 3)


def test_the_loss_of_another_call_is_no_loss_of_a_step():
    penalty = Penalty(kdf.SearchConfig())
    penalty(keras.ops.convert_to_tensor(np.float32(0.02)))
    penalty.observe(keras.ops.convert_to_tensor(7.0), [], 1.0)
    assert float(array(penalty.unit)) == 1.0

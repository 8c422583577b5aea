import numpy as np
import pytest

from keras_df import Constraints
from keras_df.budgets.allocation import Allocator
from keras_df.budgets.events import Events
from keras_df.graph import analyze


@pytest.fixture
def allocator(residual_model):
    return Allocator(analyze(residual_model), [], Constraints(round_to=2))


@pytest.fixture
def events(allocator):
    rng = np.random.default_rng(0)
    return Events(
        allocator,
        rng.uniform(size=allocator.graph.unit_count),
        [np.sort(rng.uniform(size=n))[::-1] for n in allocator.cost.limits],
    )


def test_all_steps_lead_to_the_whole_model(allocator, events):
    kept, ranks = events.select(events.prefix(events.count))
    assert kept.all()
    np.testing.assert_array_equal(ranks, allocator.cost.limits)


def test_what_constraints_demand_is_there_before_the_first_step(
    allocator, events
):
    kept, ranks = events.select(events.none)
    for group in allocator.groups:
        assert kept[group].sum() == 2
    assert kept[~allocator.free].all()
    np.testing.assert_array_equal(ranks[allocator.cost.decomposable], 2)


def test_each_step_adds_a_chunk_of_one_owner(allocator, events):
    before = events.select(events.none)
    for length in range(1, events.count + 1):
        after = events.select(events.prefix(length))
        owner = events.owners[length - 1]
        added = [np.flatnonzero(a - b) for a, b in zip(after, before)]
        if owner < len(allocator.groups):
            assert np.isin(added[0], allocator.groups[owner]).all()
            assert (len(added[0]), len(added[1])) == (2, 0)
        else:
            assert (len(added[0]), list(added[1])) == (
                0,
                [owner - len(allocator.groups)],
            )
        before = after


def test_the_best_scores_come_first(allocator):
    scores = np.zeros(allocator.graph.unit_count)
    best = allocator.groups[0]
    scores[best] = np.arange(1, len(best) + 1)
    ranks = [np.zeros(n) for n in allocator.cost.limits]
    events = Events(allocator, scores, ranks)
    steps = len(best) // 2 - 1
    assert (events.owners[:steps] == 0).all()
    kept, _ = events.select(events.prefix(steps - 1))
    np.testing.assert_array_equal(kept[best] > 0, scores[best] > 2)

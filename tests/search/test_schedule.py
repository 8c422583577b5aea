import numpy as np
import pytest

from keras_df import SearchConfig
from keras_df.search.schedule import Schedule


def at(step, horizon=100.0, **options):
    schedule = Schedule(SearchConfig(**options))
    schedule.horizon.assign(horizon)
    schedule.step.assign(step)
    return schedule


def number(tensor):
    return float(np.asarray(tensor))


@pytest.mark.parametrize(
    "step, expected", [(0, 2.0), (50, 26.0), (100, 50.0), (500, 50.0)]
)
def test_steepness_rises_linearly_and_stays_at_alpha(step, expected):
    schedule = at(step, mask_steepness=(2.0, 50.0))
    assert number(schedule.mask_steepness()) == pytest.approx(expected)


def test_rank_steepness_is_constant_where_start_and_end_agree():
    assert number(at(37, rank_steepness=(5, 5)).rank_steepness()) == 5.0


@pytest.mark.parametrize(
    "step, expected", [(0, 1.2), (35, 0.85), (70, 0.5), (100, 0.5)]
)
def test_the_target_falls_over_the_ramp_then_stays(step, expected):
    target = at(step, ramp=0.7).target(1.2, 0.5)
    assert number(target) == pytest.approx(expected, abs=1e-6)


def test_advance_counts_one_step():
    schedule = at(3)
    schedule.advance()
    assert number(schedule.step) == 4.0

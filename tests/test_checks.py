import numpy as np
import pytest

from keras_df import checks


@pytest.mark.parametrize("value", [1, 8, np.int64(3)])
def test_positive_integers_pass_as_int(value):
    assert type(checks.check_positive_integer("steps", value)) is int


@pytest.mark.parametrize("value", [0, -1, 1.0, True, np.True_, "1", None])
def test_other_values_are_no_positive_integers(value):
    with pytest.raises(ValueError, match="`steps` must be a positive integer"):
        checks.check_positive_integer("steps", value)


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(2), np.int8(-3)])
def test_finite_numbers(value):
    assert checks.is_finite_number(value)


@pytest.mark.parametrize(
    "value", [True, None, "1", 1j, float("nan"), float("inf"), 10**400]
)
def test_what_is_no_finite_number(value):
    assert not checks.is_finite_number(value)


@pytest.mark.parametrize("value", [["a"], 3, "c", True])
def test_a_choice_of_another_kind_is_refused(value):
    with pytest.raises(ValueError, match="`kind` must be one of"):
        checks.check_choice("kind", value, ("a", "b"))


def test_none_is_a_choice_where_it_is_named():
    checks.check_choice("kind", None, (None, "a"))


def test_a_type_may_be_optional():
    checks.check_type("plan", None, int, "a number", optional=True)
    with pytest.raises(TypeError, match="`plan` must be a number.*NoneType"):
        checks.check_type("plan", None, int, "a number")


def test_a_long_value_is_shown_shortly():
    assert len(checks.shown("x" * 10_000)) < 200
    assert len(checks.shown([[list(range(999))] * 999])) < 300

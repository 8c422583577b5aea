import keras
import pytest

from keras_df import SearchConfig


def test_round_trip_through_keras_serialization():
    config = SearchConfig(metric="weights", rank_steepness=(5, 5), ramp=0.5)
    serialized = keras.saving.serialize_keras_object(config)
    assert keras.saving.deserialize_keras_object(serialized) == config


@pytest.mark.parametrize(
    "options",
    [
        {"shrinkage": "hard"},
        {"metric": "outputs"},
        {"normalization": "layer"},
        {"mask": "soft"},
        {"mask_steepness": (2.0,)},
        {"mask_rate": 0.5},
        {"mask_rate": float("inf")},
        {"rank_steepness": (5.0, -1.0)},
        {"ramp": 0.0},
        {"ramp": 1.5},
        {"penalty": 0.0},
        {"penalty": float("nan")},
    ],
)
def test_a_value_out_of_range_is_named(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"`{name}`"):
        SearchConfig(**options)

import json
import math

import numpy as np
import pytest

from keras_df.export import Timing
from keras_df.report import Outcome


@pytest.fixture
def outcome():
    return Outcome(
        accuracy={"original": 0.9, "compressed": np.float32(0.5)},
        latency={"original": Timing("a.tflite", 2.0, 1.9, 2.2)},
        size={"original": 10},
        history={"loss": [1.0, 0.5]},
        metric="top_5_accuracy",
    )


def test_save_and_load(outcome, tmp_path):
    outcome.save(tmp_path / "outcome.json")
    assert Outcome.load(tmp_path / "outcome.json") == outcome


def test_what_is_not_finite_is_left_out_of_the_file(tmp_path):
    outcome = Outcome(
        accuracy={"a": 1, "b": math.nan}, history={"loss": [1, math.nan]}
    )
    outcome.save(tmp_path / "outcome.json")
    text = (tmp_path / "outcome.json").read_text()
    config = json.loads(text, parse_constant=pytest.fail)
    assert config["history"]["loss"] == [1.0, None]
    found = Outcome.load(tmp_path / "outcome.json")
    assert found.history["loss"][1] is None
    assert math.isnan(found.accuracy["b"])


@pytest.mark.parametrize(
    "part",
    [
        {"accuracy": [0.5]},
        {"accuracy": {"a": "high"}},
        {"latency": {"a": 2.0}},
        {"size": {"a": None}},
        {"history": {"loss": 1.0}},
        {"history": {"loss": ["low"]}},
    ],
)
def test_other_values_are_refused(part):
    (name,) = part
    with pytest.raises(TypeError, match=f"`{name}.*Received"):
        Outcome(**part)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "keras_df.CompressionPlan"},
        {"version": 99},
        {"latency": None},
        {"latency": {"a": {"median": 1}}},
        {"unknown": 1},
        {"accuracy": {"a": "high"}},
    ],
)
def test_damaged_files_are_refused(outcome, change, tmp_path):
    path = tmp_path / "outcome.json"
    path.write_text(json.dumps({**outcome.get_config(), **change}))
    with pytest.raises(ValueError, match=r"outcome\.json"):
        Outcome.load(path)

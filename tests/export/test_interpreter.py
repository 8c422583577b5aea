import sys

import numpy as np

from keras_df.export import litert
from keras_df.export.interpreter import make_interpreter
from keras_df.export.interpreter import ordered_inputs
from keras_df.export.interpreter import run


def test_tensorflow_interprets_where_nothing_else_is_installed(
    chain_model, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    assert litert(chain_model, tmp_path / "model.tflite") < 1e-4


class Described:
    """An interpreter of which only the inputs' details matter."""

    def __init__(self, *names):
        self._details = [{"name": name} for name in names]

    def get_input_details(self):
        return self._details


def test_inputs_are_ordered_by_name(two_inputs):
    for names in (
        ("serving_default_big:0", "serving_default_small:0"),
        ("serve_big:0", "serve_small:0"),
        ("serve_big", "serve_small"),
    ):
        ordered = ordered_inputs(Described(*names), two_inputs, ["s", "b"])
        assert ordered == ["b", "s"]


def test_inputs_of_unknown_names_keep_their_order(two_inputs):
    ordered = ordered_inputs(Described("x", "y"), two_inputs, ["s", "b"])
    assert ordered == ["s", "b"]


def test_an_open_batch_takes_any_number_of_samples(
    chain_model, images, tmp_path
):
    litert(chain_model, tmp_path / "model.tflite", batch_size=None)
    content = (tmp_path / "model.tflite").read_bytes()
    interpreter = make_interpreter(content)
    for count in (3, 1, 5):
        (actual,) = run(interpreter, [images[:count]])
        expected = chain_model(images[:count], training=False)
        np.testing.assert_allclose(actual, expected, atol=1e-5)

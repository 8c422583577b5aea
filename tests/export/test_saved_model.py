import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import keras_df as kdf
from keras_df.export import saved_model

SERVE = """
import json, sys
import numpy as np
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
images = np.load(sys.argv[2])
outputs = [served.serve(images[:n]).numpy().tolist() for n in (7, 1)]
print(json.dumps(["keras_df" in sys.modules, outputs]))
"""


@pytest.mark.slow
def test_it_is_served_by_tensorflow_alone_in_any_batch_size(
    residual_model, images, tmp_path
):
    plan = kdf.baselines.random(residual_model, kdf.MACs(0.5))
    small = kdf.compress(residual_model, plan)
    assert saved_model(small, tmp_path / "model") < 1e-5
    np.save(tmp_path / "x.npy", images[:7])
    result = subprocess.run(
        [sys.executable, "-c", SERVE, tmp_path / "model", tmp_path / "x.npy"],
        check=True,
        capture_output=True,
        text=True,
    )
    with_keras_df, outputs = json.loads(result.stdout.splitlines()[-1])
    assert not with_keras_df
    assert "import keras" not in SERVE
    for count, found in zip((7, 1), outputs, strict=True):
        expected = np.asarray(small(images[:count], training=False))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_mixed_precision_and_images_of_any_size(tmp_path):
    import tensorflow as tf

    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, dtype="mixed_float16")(inputs)
    x = layers.GlobalAveragePooling2D(dtype="float32")(x)
    model = keras.Model(inputs, x)
    assert saved_model(model, tmp_path / "model") < 1e-5
    served = tf.saved_model.load(str(tmp_path / "model"))
    x = np.random.default_rng(0).uniform(size=(3, 9, 14, 3)).astype("float32")
    expected = np.asarray(model(x, training=False))
    np.testing.assert_allclose(served.serve(x), expected, atol=1e-5)


def test_several_inputs(two_inputs, tmp_path):
    assert saved_model(two_inputs, tmp_path / "model") < 1e-5


def test_a_sequential_model(chain_model, tmp_path):
    assert saved_model(chain_model, str(tmp_path / "model")) < 1e-5
    assert "saved_model.pb" in os.listdir(tmp_path / "model")


def test_an_older_saved_model_is_replaced(two_inputs, chain_model, tmp_path):
    import tensorflow as tf

    saved_model(two_inputs, tmp_path / "model")
    saved_model(chain_model, tmp_path / "model")
    assert os.listdir(tmp_path) == ["model"]
    served = tf.saved_model.load(str(tmp_path / "model"))
    assert served.serve(np.zeros((2, 8, 8, 3), "float32")).shape == (2, 4)


def test_other_files_beside_a_saved_model_are_not_lost(chain_model, tmp_path):
    path = tmp_path / "model"
    saved_model(chain_model, path)
    (path / "labels.txt").write_text("cat")
    with pytest.raises(FileExistsError, match="'labels.txt' beside"):
        saved_model(chain_model, path)
    assert (path / "labels.txt").read_text() == "cat"


def test_an_empty_folder_is_used(two_inputs, tmp_path):
    (tmp_path / "model").mkdir()
    saved_model(two_inputs, tmp_path / "model")
    assert "saved_model.pb" in os.listdir(tmp_path / "model")


def test_what_a_killed_export_left_is_removed(two_inputs, tmp_path):
    (tmp_path / ".model.x.new" / "new").mkdir(parents=True)
    saved_model(two_inputs, tmp_path / "model")
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_saved_model_is_not_replaced(two_inputs, kind, tmp_path):
    path = tmp_path / "model"
    if kind == "folder":
        path.mkdir()
    mine = path / "mine.txt" if kind == "folder" else path
    mine.write_text("precious")
    with pytest.raises(FileExistsError, match="is not a SavedModel"):
        saved_model(two_inputs, path)
    assert mine.read_text() == "precious"
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_wrong_one_is_never_written(
    two_inputs, is_there, tmp_path, monkeypatch
):
    path = tmp_path / "model"
    if is_there:
        saved_model(two_inputs, path)
        before = os.stat(path / "saved_model.pb").st_mtime_ns
    names = saved_model.__globals__
    outputs = names["expected_outputs"]
    monkeypatch.setitem(
        names,
        "expected_outputs",
        lambda *args: [x + 1 for x in outputs(*args)],
    )
    with pytest.raises(RuntimeError, match="The SavedModel does not compute"):
        saved_model(two_inputs, path)
    assert os.listdir(tmp_path) == (["model"] if is_there else [])
    if is_there:
        assert os.stat(path / "saved_model.pb").st_mtime_ns == before


def test_another_backend_is_refused(two_inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="needs the TensorFlow backend"):
        saved_model(two_inputs, tmp_path / "model")
    assert not os.listdir(tmp_path)


def test_images_are_not_augmented(augmenting_model, images, tmp_path):
    import tensorflow as tf

    assert saved_model(augmenting_model, tmp_path / "model") < 1e-5
    served = tf.saved_model.load(str(tmp_path / "model"))
    expected = np.asarray(augmenting_model(images, training=False))
    np.testing.assert_allclose(served.serve(images), expected, atol=1e-5)


def test_words_as_inputs(tmp_path):
    lookup = layers.StringLookup(vocabulary=["a", "b"])
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="string"),
            lookup,
            layers.Embedding(4, 4),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    assert saved_model(model, tmp_path / "words") <= 1e-5

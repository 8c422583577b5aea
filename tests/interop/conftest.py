import keras
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def only_on_tensorflow():
    pytest.importorskip("tf_keras")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf_keras runs on TensorFlow")


@pytest.fixture
def tfmot(monkeypatch):
    # tfmot sets it when it is imported; other tests are spared that.
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    module = pytest.importorskip("tensorflow_model_optimization")
    return module.quantization.keras


@pytest.fixture
def images():
    return (
        np.random.default_rng(1).uniform(size=(32, 8, 8, 3)).astype("float32")
    )

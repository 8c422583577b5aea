"""The optional peer: what PyTorch prunes comes back as the same function."""

import pathlib

import keras
import numpy as np
import pytest

import keras_df as kdf

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning")

FOLDER = pathlib.Path(__file__).parents[2] / "examples" / "benchmarks"


@pytest.fixture
def peer(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import torch_peer

    return torch_peer


def network():
    """Residual blocks whose second shortcut pads channels."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    shortcut = keras.ops.pad(
        x[:, ::2, ::2, :], [(0, 0), (0, 0), (0, 0), (4, 4)]
    )
    x = layers.ZeroPadding2D()(x)
    x = layers.Conv2D(12, 3, strides=2, activation="relu")(x)
    x = layers.Conv2D(16, 3, padding="same")(x)
    x = layers.Add()([x, shortcut])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(4)(x))


def test_the_twin_computes_what_keras_does(peer):
    model = network()
    image = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3))
    convolutional = peer._with_convolutions(model)
    twin = peer.TorchTwin(convolutional)
    expected = model.predict(image, verbose=0)
    channels_first = torch.tensor(image.transpose(0, 3, 1, 2)).float()
    with torch.no_grad():
        actual = twin(channels_first).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("share", [0.7, 0.4])
@pytest.mark.parametrize("together", [False, True])
def test_the_pruned_network_meets_the_budget(peer, share, together):
    model = network()
    before = kdf.count(model).macs
    small = peer.group_magnitude(model, kdf.MACs(share), together)
    after = kdf.count(small).macs
    assert 0.6 * share * before < after <= share * before


def test_convolutions_with_an_activation_are_brought_back_pruned(peer):
    model = network()
    small = peer.group_magnitude(model, kdf.MACs(0.4))
    widths = [x.filters for x in small.layers if hasattr(x, "filters")]
    assert sorted(widths)[-1] < 12


def test_a_shortcut_that_is_no_stride_of_two_is_refused(peer):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, padding="same")(image)
    x = keras.layers.GlobalAveragePooling2D()(x[:, ::4, ::4, :])
    model = keras.Model(image, keras.layers.Dense(4)(x))
    with pytest.raises(RuntimeError, match="differ"):
        peer.group_magnitude(model, kdf.MACs(0.5))


def test_a_layer_that_pytorch_pads_otherwise_is_refused(peer):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="odd")(image)
    with pytest.raises(ValueError, match="odd"):
        peer.TorchTwin(keras.Model(image, x))

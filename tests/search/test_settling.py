import keras
import numpy as np
import pytest
from search_helpers import compiled
from search_helpers import separable_data
from search_helpers import small_network

import keras_df as kdf
from keras_df.search.settling import SETTLING
from keras_df.search.settling import settling


def shares(mask, ranks, limits):
    found = settling(
        keras.ops.convert_to_tensor(mask, "float32"),
        keras.ops.convert_to_tensor(ranks, "float32"),
        np.array(limits, int),
    )
    return keras.ops.convert_to_numpy(found).tolist()


def test_shares_by_hand():
    found = shares([1.0, 0.97, 0.5, 0.01], [2.0, 0.0, 1.0], [4, 8])
    assert found == pytest.approx([0.62, 0.75, 0.25])


def test_what_a_model_lacks_is_whole():
    assert shares([], [1.0], [2]) == [1.0, 1.0, 0.5]
    assert shares([0.5], [], []) == [0.5, 0.0, 1.0]


def fitted(callbacks, constraints=None, epochs=3):
    search = compiled(
        kdf.SearchModel(small_network(), kdf.MACs(0.6), constraints)
    )
    x, y = separable_data()
    history = search.fit(
        x, y, batch_size=32, epochs=epochs, verbose=0, callbacks=callbacks
    )
    return search, history.history


def test_a_search_shows_what_its_masks_and_ranks_are():
    search, history = fitted([])
    search.evaluate(*separable_data(), verbose=0)
    mask = keras.ops.convert_to_numpy(search._mask())[search._free]
    _, ranks, _ = search.relax()
    limits = [
        min(x.view.matrix_shape)
        for x in search.wrappers.values()
        if x.view.scheme is not None
    ]
    near = np.minimum(abs(mask), abs(1 - mask)) <= 0.05
    expected = [
        mask.mean(),
        near.mean(),
        keras.ops.convert_to_numpy(ranks).sum() / sum(limits),
    ]
    latest = [search._trackers[name].result() for name in SETTLING]
    assert [float(x) for x in latest] == pytest.approx(expected, abs=1e-6)
    assert all(len(history[name]) == 3 for name in SETTLING)


def test_without_pruning_masks_are_whole():
    _, history = fitted([], kdf.Constraints(prune=False), epochs=1)
    assert history["masks"] == history["masks_settled"] == [1.0]
    assert 0 < history["ranks"][0] < 1


def scalars(folder):
    """Dict from tag to the values in a TensorBoard folder."""
    from tensorboard.backend.event_processing import event_accumulator
    from tensorboard.util.tensor_util import make_ndarray

    accumulator = event_accumulator.EventAccumulator(str(folder)).Reload()
    return {
        tag: [
            float(make_ndarray(event.tensor_proto))
            for event in accumulator.Tensors(tag)
        ]
        for tag in accumulator.Tags()["tensors"]
        if tag.startswith(("epoch_", "batch_"))
    }


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="writes TensorFlow's events"
)
def test_tensorboard_shows_the_same_curves(tmp_path):
    pytest.importorskip("tensorboard")
    recorder = kdf.report.SearchRecorder()
    board = keras.callbacks.TensorBoard(tmp_path, update_freq=1)
    _, history = fitted([board, recorder])
    found = scalars(tmp_path / "train")
    for name in ("loss", "macs", *SETTLING):
        assert found[f"epoch_{name}"] == pytest.approx(history[name])
        assert found[f"batch_{name}"] == pytest.approx(recorder.history[name])

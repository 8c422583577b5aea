import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras.src.trainers.data_adapters import array_slicing

from keras_df.calibration import batch_count
from keras_df.calibration import is_of_unknown_length


class Batches(keras.utils.PyDataset):
    num_batches = None

    def __init__(self, count):
        super().__init__()
        self.num_batches = count

    def __getitem__(self, index):
        return np.zeros((4, 2)), np.zeros(4)


class Loader:
    """What other frameworks have: batches, and how many."""

    def __len__(self):
        return 7

    def __iter__(self):
        return iter([(np.zeros((4, 2)), np.zeros(4))] * 7)


class EndlessLoader(Loader):
    def __len__(self):
        raise TypeError("object of type 'Stream' has no len()")


def generator():
    yield np.zeros((4, 2)), np.zeros(4)


@pytest.mark.parametrize(
    "data, expected",
    [
        (Batches(3), 3),
        (Batches(0), 0),
        (Batches(None), None),
        (Loader(), 7),
        (EndlessLoader(), None),
        (generator(), None),
        (np.zeros((70, 2)), 3),
        ({"a": np.zeros((64, 2)), "b": np.zeros((64, 3))}, 2),
        ((np.zeros((65, 2)), np.zeros(65)), 3),
    ],
)
def test_the_number_of_batches(data, expected):
    assert batch_count(data) == expected
    assert not is_of_unknown_length(data) or expected is None


def test_the_number_of_batches_of_a_tensorflow_data_set():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.range(10).batch(4)
    assert batch_count(data) == 3
    for unknown in (data.repeat(), data.filter(lambda x: x[0] > 0)):
        assert batch_count(unknown) is None
        assert is_of_unknown_length(unknown)


@given(
    st.integers(2, 200), st.integers(1, 40), st.sampled_from([0.1, 0.3, 0.5])
)
def test_what_is_held_out_does_not_count(samples, batch_size, split):
    """As Keras itself splits arrays."""
    x = np.zeros((samples, 1))
    (kept,), _ = array_slicing.train_validation_split((x,), split)
    expected = -(-len(kept) // batch_size)
    assert batch_count(x, batch_size, split) == expected

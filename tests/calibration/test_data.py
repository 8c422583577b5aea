import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

from keras_df.calibration import as_fit_reads
from keras_df.calibration import flat_inputs
from keras_df.calibration import iterate_batches
from keras_df.calibration import take_batches

X = np.arange(20.0, dtype="float32").reshape(10, 2)
Y = np.arange(10)
PARTS = (X[:4], X[4:8], X[8:])
SPREAD = (X[::3], X[1::3], X[2::3])


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return PARTS[index], Y[4 * index : 4 * index + 4]


class ListedBatches(Batches):
    def __getitem__(self, index):
        return list(super().__getitem__(index))


class EndlessBatches(Batches):
    @property
    def num_batches(self):
        return None

    def __getitem__(self, index):
        return X + index, Y


def tensorflow_data(*values):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(*values).batch(4)


SOURCES = {
    "list of batches": lambda: list(PARTS),
    "list of pairs": lambda: [(x, Y[: len(x)]) for x in PARTS],
    "generator": lambda: (x for x in PARTS),
    "generator of pairs": lambda: ((x, None) for x in PARTS),
    "PyDataset": Batches,
    "PyDataset of lists": ListedBatches,
    "tf.data": lambda: tensorflow_data(X),
    "tf.data of pairs": lambda: tensorflow_data((X, Y)),
}
ARRAYS = {
    "array": lambda: X,
    "tuple of arrays": lambda: (X, Y),
    "tuple of one": lambda: (X,),
    "tuple with weights": lambda: (X, Y, np.ones(10)),
    "tf.Tensor": lambda: pytest.importorskip("tensorflow").constant(X),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_the_inputs_of_every_kind_of_data(source):
    batches = take_batches(source(), steps=100, batch_size=4)
    assert len(batches) == 3
    for batch, expected in zip(batches, PARTS):
        np.testing.assert_array_equal(batch, expected)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_only_the_first_batches_are_taken(source):
    batches = take_batches(source(), steps=2, batch_size=4)
    np.testing.assert_array_equal(np.concatenate(batches), X[:8])


@pytest.mark.parametrize("source", ARRAYS.values(), ids=ARRAYS.keys())
@pytest.mark.parametrize("steps", [2, 100])
def test_batches_of_arrays_are_spread_over_all_samples(source, steps):
    """Arrays may be sorted by class."""
    batches = take_batches(source(), steps, batch_size=4)
    for batch, expected in zip(batches, SPREAD[:steps], strict=True):
        np.testing.assert_array_equal(batch, expected)


@given(st.integers(1, 50), st.integers(1, 60))
def test_batches_of_arrays_hold_every_sample_once(samples, batch_size):
    batches = take_batches(np.arange(samples), samples, batch_size)
    assert max(map(len, batches)) <= batch_size
    np.testing.assert_array_equal(
        np.sort(np.concatenate(batches)), np.arange(samples)
    )


def test_a_dict_of_arrays_is_cut_into_dicts():
    batches = take_batches({"a": X, "b": Y}, steps=9, batch_size=6)
    assert [set(batch) for batch in batches] == [{"a", "b"}] * 2
    np.testing.assert_array_equal(batches[1]["a"], X[1::2])
    np.testing.assert_array_equal(batches[1]["b"], Y[1::2])


def test_several_inputs_in_a_tuple_with_targets():
    (batch,) = take_batches(([X, 2 * X], Y), steps=9)
    np.testing.assert_array_equal(batch[0], X)
    np.testing.assert_array_equal(batch[1], 2 * X)


def test_dicts_in_batches_with_targets():
    batches = take_batches(tensorflow_data(({"a": X}, Y)), steps=9)
    np.testing.assert_array_equal(batches[2]["a"], X[8:])


def test_endless_data():
    assert len(take_batches(EndlessBatches(), steps=5)) == 5
    endless = iter(lambda: (X, Y), None)
    assert len(take_batches(endless, steps=5)) == 5


def test_a_generator_is_read_no_further_than_asked():
    generator = iter(PARTS)
    take_batches(generator, steps=2)
    np.testing.assert_array_equal(next(generator), PARTS[2])


def test_what_was_taken_can_be_taken_again():
    batches = take_batches(X, steps=2, batch_size=4)
    again = take_batches(batches, steps=9)
    assert len(again) == 2
    np.testing.assert_array_equal(again[1], SPREAD[1])


@pytest.mark.parametrize(
    "data", [X[:0], (X[:0], Y[:0]), [], (), iter([]), {"a": X[:0]}]
)
def test_empty_data_is_refused(data):
    with pytest.raises(ValueError, match="data set is empty"):
        take_batches(data, steps=2)


@pytest.mark.parametrize("data", [None, 3, object()])
def test_what_is_no_data_is_refused(data):
    with pytest.raises(TypeError, match="Expected data as `Model.fit`"):
        iterate_batches(data)


@pytest.fixture
def two_inputs():
    first = keras.Input((2,), name="first")
    second = keras.Input((3,), name="second")
    joined = layers.Concatenate()([layers.Dense(1)(second), first])
    return keras.Model([second, first], joined)


def test_a_dict_is_ordered_by_the_names_of_the_inputs(two_inputs):
    first, second = np.ones((4, 2)), np.zeros((4, 3))
    for batch in ({"first": first, "second": second}, [second, first]):
        flat = flat_inputs(two_inputs, batch)
        np.testing.assert_array_equal(flat[0], second)
        np.testing.assert_array_equal(flat[1], first)


def test_inputs_get_the_dtype_of_the_model(two_inputs):
    batch = [np.zeros((4, 3)), np.zeros((4, 2), "int64")]
    flat = flat_inputs(two_inputs, batch)
    kinds = [keras.backend.standardize_dtype(x.dtype) for x in flat]
    assert kinds == ["float32", "float32"]


def test_a_list_with_an_array_per_input_is_no_list_of_batches(two_inputs):
    arrays = [np.zeros((10, 3)), np.ones((10, 2))]
    (batch,) = take_batches(as_fit_reads(two_inputs, arrays), 5)
    for actual, expected in zip(batch, arrays, strict=True):
        np.testing.assert_array_equal(actual, expected)
    batches = [dict(zip(("second", "first"), arrays))] * 2
    assert as_fit_reads(two_inputs, batches) is batches


def test_one_tensor_does_not_fit_two_inputs(two_inputs):
    with pytest.raises(ValueError, match="does not fit"):
        flat_inputs(two_inputs, np.zeros((10, 3)))


def test_lists_of_a_torch_loader_are_batches():
    """Its default collation makes a list of inputs and targets."""

    class DataLoader:
        def __iter__(self):
            return iter([[X[:4], Y[:4]], [X[4:], Y[4:]]])

    DataLoader.__module__ = "torch.utils.data.dataloader"
    first, second = take_batches(DataLoader(), 2)
    np.testing.assert_array_equal(first, X[:4])
    np.testing.assert_array_equal(second, X[4:])


def test_sparse_arrays_are_read():
    sparse = pytest.importorskip("scipy.sparse")
    batches = take_batches(sparse.csr_array(X), 3, batch_size=4)
    for batch, expected in zip(batches, SPREAD, strict=True):
        np.testing.assert_array_equal(batch, expected)

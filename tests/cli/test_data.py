import argparse
import os
import types

import keras
import numpy as np
import pytest
from keras import layers

from keras_df.cli.console import UsageError
from keras_df.cli.data import _shuffle_buffer
from keras_df.cli.data import load_data
from keras_df.cli.parser import add_data


def flags(*argv):
    parser = argparse.ArgumentParser()
    add_data(parser, required=True)
    words = [str(word) for word in ("--data", *argv)]
    return argparse.Namespace(quiet=True, **vars(parser.parse_args(words)))


def network(shape=(6, 6, 3), outputs=2):
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.GlobalAveragePooling2D(),
            layers.Dense(outputs),
        ]
    )


def gathered(batches):
    x, y = zip(*batches.as_numpy_iterator())
    return np.concatenate(x), np.concatenate(y)


def numbers(count, shape=(6, 6, 3)):
    """Inputs that hold their own number, and it as target."""
    y = np.arange(count)
    x = np.broadcast_to(y.reshape(-1, 1, 1, 1), (count, *shape))
    return x.astype("float32"), y


def test_arrays_of_a_file(tmp_path):
    x, y = numbers(10)
    np.savez(tmp_path / "d.npz", x=x, y=y, x_test=x[:4] + 20, y_test=y[:4])
    args = flags(tmp_path / "d.npz", "--batch_size", 4)
    data = load_data(args, network())
    assert data.steps == 3
    inputs, targets = gathered(data.train)
    assert sorted(targets) == list(range(10))
    np.testing.assert_array_equal(inputs[:, 0, 0, 0], targets)
    inputs, targets = gathered(data.test)
    np.testing.assert_array_equal(inputs, x[:4] + 20)


def test_training_is_shuffled_and_reproducible(tmp_path):
    x, y = numbers(50)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    args = flags(tmp_path / "d.npz", "--seed", 7)
    orders = [gathered(load_data(args, network()).train)[1] for _ in "ab"]
    np.testing.assert_array_equal(*orders)
    assert orders[0].tolist() != sorted(orders[0])
    data = load_data(args, network()).train
    first, second = gathered(data)[1], gathered(data)[1]
    assert first.tolist() != second.tolist()


def test_a_part_is_held_out(tmp_path):
    x, y = numbers(20)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    args = flags(tmp_path / "d.npz", "--validation_split", 0.25)
    data = load_data(args, network())
    train, test = gathered(data.train)[1], gathered(data.test)[1]
    assert len(test) == 5
    assert sorted([*train, *test]) == list(range(20))


def test_inputs_are_scaled(tmp_path):
    x = np.full((4, 6, 6, 3), 200, "uint8")
    np.savez(tmp_path / "d.npz", x=x, y=np.zeros(4))
    args = flags(tmp_path / "d.npz", "--scale", 0.01, "--offset", -1)
    inputs, _ = gathered(load_data(args, network()).test)
    np.testing.assert_allclose(inputs, 1.0, 1e-5)
    assert inputs.dtype == "float32"


def test_integers_stay_integers(tmp_path):
    x = np.arange(12).reshape(4, 3)
    np.savez(tmp_path / "d.npz", x=x, y=np.zeros(4))
    inputs = keras.Input((3,), dtype="int32")
    y = layers.Flatten()(layers.Embedding(12, 2)(inputs))
    model = keras.Model(inputs, layers.Dense(2)(y))
    found, _ = gathered(load_data(flags(tmp_path / "d.npz"), model).train)
    assert found.dtype == "int32"


def test_vectors_are_not_augmented(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 5)), y=np.zeros(4))
    model = keras.Sequential([keras.Input((5,)), layers.Dense(2)])
    with pytest.raises(UsageError, match=r"--augment .* shape \(5,\)"):
        load_data(flags(tmp_path / "d.npz", "--augment"), model)


def test_only_training_is_augmented(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(8, 6, 6, 3)).astype("float32")
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(8), x_test=x, y_test=x)
    args = flags(tmp_path / "d.npz", "--augment")
    data = load_data(args, network())
    inputs, targets = gathered(data.train)
    assert inputs.shape == x.shape
    assert not np.allclose(inputs[np.argsort(targets)], x)
    np.testing.assert_array_equal(gathered(data.test)[0], x)


def test_targets_may_be_left_out(tmp_path):
    np.savez(tmp_path / "d.npz", x=numbers(4)[0])
    args = flags(tmp_path / "d.npz")
    assert load_data(args, network(), targets=False).steps == 1
    with pytest.raises(ValueError, match="has no array y"):
        load_data(args, network())


def save_images(folder, classes=("cat", "dog"), count=5):
    for value, name in enumerate(classes):
        os.makedirs(folder / name)
        for index in range(count):
            image = np.full((10, 8, 3), 50 + 100 * value, "uint8")
            keras.utils.save_img(
                folder / name / f"{index}.png", image, scale=False
            )


def test_a_folder_of_images(tmp_path):
    save_images(tmp_path / "photos")
    args = flags(tmp_path / "photos", "--validation_split", 0.2)
    data = load_data(args, network())
    (x, y), (x_test, _) = gathered(data.train), gathered(data.test)
    assert x.shape == (8, 6, 6, 3) and len(x_test) == 2
    np.testing.assert_allclose(x[:, 0, 0, 0], 50 + 100 * y)


def test_a_folder_with_training_and_test_images(tmp_path):
    save_images(tmp_path / "photos/train")
    save_images(tmp_path / "photos/val", count=1)
    data = load_data(flags(tmp_path / "photos"), network())
    assert len(gathered(data.train)[1]) == 10
    assert gathered(data.test)[1].tolist() == [0, 1]


def test_test_images_count_classes_as_training_images_do(tmp_path):
    save_images(tmp_path / "photos/train")
    save_images(tmp_path / "photos/val", classes=["dog"])
    with pytest.raises(UsageError, match="for every class"):
        load_data(flags(tmp_path / "photos"), network())
    (tmp_path / "photos/val/cat").mkdir()
    data = load_data(flags(tmp_path / "photos"), network())
    assert set(gathered(data.test)[1]) == {1}


def test_training_images_alone_are_split(tmp_path):
    save_images(tmp_path / "photos/train")
    data = load_data(flags(tmp_path / "photos"), network())
    assert len(gathered(data.train)[1]) == 9
    assert len(gathered(data.test)[1]) == 1
    assert set(gathered(data.train)[1]) == {0, 1}


def test_images_for_any_size_need_one(tmp_path):
    save_images(tmp_path / "photos")
    model = network((None, None, 3))
    with pytest.raises(UsageError, match="--image_size"):
        load_data(flags(tmp_path / "photos"), model)
    args = flags(tmp_path / "photos", "--image_size", 4)
    assert gathered(load_data(args, model).train)[0].shape[1:] == (4, 4, 3)


def test_an_object_array_is_not_unpickled(tmp_path):
    x = np.array([{"a": 1}, {}], dtype=object)
    np.savez(tmp_path / "d.npz", x=x, y=np.zeros(2))
    with pytest.raises(ValueError, match=r"Cannot read.*allow_pickle"):
        load_data(flags(tmp_path / "d.npz"), network())


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"images": numbers(2)[0]}, "has no array x and no y"),
        ({"x": numbers(3)[0], "y": np.zeros(2)}, "3 inputs and 2 targets"),
        ({"x": np.zeros((2, 5, 6, 3)), "y": np.zeros(2)}, "the model takes"),
        ({"x": np.zeros((0, 6, 6, 3)), "y": np.zeros(0)}, "not none"),
        ({"x": np.zeros((1, 6, 6, 3)), "y": np.zeros(1)}, "none is left to tr"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_data(flags(tmp_path / "d.npz"), network())


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "d.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"Cannot read '.*d\.npz'"):
        load_data(flags(tmp_path / "d.npz"), network())


@pytest.mark.parametrize(
    "argv",
    [
        ("none.npz",),
        ("some/folder",),
        ("d.npz", "--batch_size", 0),
        ("d.npz", "--validation_split", 1),
    ],
)
def test_wrong_flags_are_refused(argv):
    with pytest.raises(UsageError):
        load_data(flags(*argv), network())


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "train.csv").write_text("1,2")
    with pytest.raises(UsageError, match="train.csv' cannot be read: .*npz"):
        load_data(flags(tmp_path / "train.csv"), network())


def test_a_model_with_two_inputs_is_refused():
    inputs = [keras.Input((3,)), keras.Input((3,))]
    model = keras.Model(inputs, layers.Dense(2)(layers.Add()(inputs)))
    with pytest.raises(UsageError, match="2 inputs and 1 outputs"):
        load_data(flags("d.npz"), model)


@pytest.fixture(scope="module")
def tiny_digits(tmp_path_factory):
    """Flags that name a prepared TensorFlow data set."""
    folder = tmp_path_factory.mktemp("tfds")
    tfds = pytest.importorskip("tensorflow_datasets")

    class TinyDigits(tfds.testing.DummyMnist):
        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=super()._info().features,
                supervised_keys=("image", "label"),
            )

    TinyDigits(data_dir=folder).download_and_prepare()
    return "tiny_digits", "--data_dir", folder


def test_a_tensorflow_data_set(tiny_digits):
    data = load_data(flags(*tiny_digits), network((14, 14, 1), 10))
    for batches in (data.train, data.test):
        x, y = gathered(batches)
        assert x.shape == (20, 14, 14, 1) and y.shape == (20,)
        np.testing.assert_allclose(x, 1)  # as that data set has it


def test_a_split_whose_labels_are_hidden_is_passed_by(monkeypatch):
    import tensorflow as tf

    tfds = pytest.importorskip("tensorflow_datasets")
    labels = {"train": [0, 1], "test": [-1, -1], "validation": [1, 0, 1]}

    def as_dataset(split, as_supervised):
        found = np.array(labels[split.partition("[")[0]])
        images = np.ones((len(found), 4, 4, 1), "uint8")
        return tf.data.Dataset.from_tensor_slices((images, found))

    builder = types.SimpleNamespace(
        info=types.SimpleNamespace(splits=list(labels)),
        is_prepared=lambda: True,
        as_dataset=as_dataset,
    )
    monkeypatch.setattr(tfds, "builder", lambda *args, **options: builder)
    data = load_data(flags("photos"), network((4, 4, 1), 2))
    np.testing.assert_array_equal(gathered(data.test)[1], [1, 0, 1])


def test_large_images_fill_a_smaller_buffer():
    import tensorflow as tf

    def buffer(*shape):
        spec = tf.TensorSpec(shape, "float32")
        return _shuffle_buffer(types.SimpleNamespace(element_spec=(spec,)))

    assert buffer(32, 32, 3) == 10_000
    assert buffer(100, 100, 3) == 4166
    assert buffer(512, 512, 3) == buffer(None, None, 3) == 1_000


def test_a_tensorflow_data_set_for_a_model_of_any_size(tiny_digits):
    model = network((None, None, 1), 10)
    x, _ = gathered(load_data(flags(*tiny_digits), model).test)
    assert x.shape == (20, 28, 28, 1)
    args = flags(*tiny_digits, "--image_size", 14)
    x, _ = gathered(load_data(args, model).test)
    assert x.shape == (20, 14, 14, 1)


def test_images_of_many_sizes_need_one(monkeypatch):
    import tensorflow as tf

    tfds = pytest.importorskip("tensorflow_datasets")
    samples = tf.data.Dataset.from_generator(
        lambda: [(np.ones((3, 14, 1)), 0), (np.ones((5, 14, 1)), 1)],
        output_signature=(
            tf.TensorSpec((None, 14, 1)),
            tf.TensorSpec((), "int64"),
        ),
    )
    builder = types.SimpleNamespace(
        info=types.SimpleNamespace(splits=["train", "test"]),
        is_prepared=lambda: True,
        as_dataset=lambda split, as_supervised: samples,
    )
    monkeypatch.setattr(tfds, "builder", lambda *args, **options: builder)
    with pytest.raises(UsageError, match="Say --image_size"):
        load_data(flags("photos"), network((None, None, 1)))
    args = flags("photos", "--image_size", 14)
    x = next(iter(load_data(args, network((None, None, 1))).test))[0]
    assert x.shape == (2, 14, 14, 1)


@pytest.mark.parametrize(
    "name, message",
    [
        ("mnist", "not prepared.*--download"),
        ("nmist", "no TensorFlow data set"),
        ("imagenette/160px-v2", "not prepared"),
        ("imagenette/1px", "no TensorFlow data set that can be found.*1px"),
    ],
)
def test_a_tensorflow_data_set_that_is_not_there(name, message, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    args = flags(name, "--data_dir", tmp_path)
    with pytest.raises(UsageError, match=message):
        load_data(args, network((28, 28, 1), 10))

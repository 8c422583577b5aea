"""Reading training data that a command line can name."""

import os
import zipfile
from dataclasses import dataclass

import keras
import numpy as np

from keras_df.cli.console import UsageError
from keras_df.cli.console import existing
from keras_df.cli.console import say
from keras_df.graph.walk import graph_of

TEST_NAMES = ("test", "validation", "val")
SHUFFLED = (1_000, 10_000)
"""The fewest and the most samples that the next is drawn from."""
SHUFFLED_BYTES = 5 * 10**8
COLORS = {1: "grayscale", 3: "rgb", 4: "rgba"}


@dataclass(frozen=True)
class Data:
    """Batches of `(inputs, targets)`, as the model takes them.

    Attributes:
        train: `tf.data.Dataset`, one pass, shuffled.
        test: `tf.data.Dataset`, one pass, in order.
    """

    train: object
    test: object

    @property
    def steps(self):
        """Number of training batches in one pass."""
        return int(self.train.cardinality())


def load_data(args, model, targets=True):
    """Loads the data that the flags of `add_data` name.

    Args:
        args: The parsed flags.
        model: The `keras.Model` that is to take it.
        targets: Whether targets are needed.

    Returns:
        `Data`.

    Raises:
        UsageError: If the flags name nothing that can be read.
        ValueError: If the data does not fit the model.
    """
    graph = graph_of(model)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise UsageError(
            f"The model has {len(graph.inputs)} inputs and "
            f"{len(graph.outputs)} outputs. The command line feeds models "
            "with one of each; use the library for others."
        )
    if not 0 < args.validation_split < 1 or args.batch_size < 1:
        raise UsageError(
            "--validation_split must be between 0 and 1 and --batch_size "
            "positive."
        )
    shape = _input_shape(graph, args.image_size)
    if args.augment and len(shape) != 3:
        raise UsageError(
            "--augment flips and shifts images; the model takes inputs of "
            f"shape {shape}."
        )
    if args.data.endswith(".npz"):
        train, test = _arrays(args, shape, targets)
    elif os.path.isdir(args.data):
        train, test = _images(args, shape)
    elif os.path.isfile(args.data):
        raise UsageError(
            f"'{args.data}' cannot be read: of files, --data takes .npz with "
            "arrays x and y."
        )
    else:
        train, test = _tensorflow_dataset(args, shape)
    dtype = graph.inputs[0].dtype
    train = _prepared(train, args, dtype, args.augment)
    test = _prepared(test, args, dtype)
    say(
        args,
        f"Data: '{args.data}', {int(train.cardinality())} training and "
        f"{int(test.cardinality())} test batches of {args.batch_size}",
    )
    return Data(train, test)


def _input_shape(graph, image_size):
    shape = graph.inputs[0].shape[1:]
    return tuple(image_size if size is None else size for size in shape)


def _arrays(args, shape, targets):
    import tensorflow as tf

    try:
        with np.load(existing(args.data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise ValueError(f"Cannot read '{args.data}': {error}") from error
    if "x" in arrays and not targets:
        arrays.setdefault("y", np.zeros(len(arrays["x"])))
    missing = {"x", "y"} - set(arrays)
    if missing:
        raise ValueError(
            f"'{args.data}' has no array {' and no '.join(sorted(missing))}. "
            f"Its arrays are: {', '.join(arrays) or 'none'}"
        )
    has_test = {"x_test", "y_test"} <= set(arrays)
    for end in ("", "_test") if has_test else ("",):
        x, y = arrays[f"x{end}"], arrays[f"y{end}"]
        if len(x) != len(y) or not len(x):
            raise ValueError(
                f"'{args.data}' has {len(x)} inputs and {len(y)} targets in "
                f"x{end} and y{end}. They must be as many, and not none."
            )
        if not _fits(x.shape[1:], shape):
            raise ValueError(
                f"'{args.data}' has inputs of shape {x.shape[1:]} in x{end}; "
                f"the model takes {shape}."
            )
    if not has_test:
        _hold_out(arrays, args)
    train = tf.data.Dataset.from_tensor_slices((arrays["x"], arrays["y"]))
    test = tf.data.Dataset.from_tensor_slices(
        (arrays["x_test"], arrays["y_test"])
    )
    train = train.shuffle(len(arrays["x"]), seed=args.seed)
    return train.batch(args.batch_size), test.batch(args.batch_size)


def _fits(actual, wanted):
    return len(actual) == len(wanted) and all(
        b in (None, a) for a, b in zip(actual, wanted)
    )


def _hold_out(arrays, args):
    """Splits a test part off, at random."""
    count = len(arrays["x"])
    order = np.random.default_rng(args.seed).permutation(count)
    held = max(1, round(args.validation_split * count))
    if held == count:
        raise ValueError(
            f"'{args.data}' has {count} inputs, of which --validation_split "
            f"{args.validation_split} holds out {held} to test on: none is "
            "left to train on. Add some, or arrays x_test and y_test."
        )
    for name in ("x", "y"):
        arrays[f"{name}_test"] = arrays[name][order[:held]]
        arrays[name] = arrays[name][order[held:]]


def _images(args, shape):
    if len(shape) != 3 or None in shape or shape[-1] not in COLORS:
        raise UsageError(
            f"The model takes inputs of shape {shape}, which a folder of "
            "images cannot provide. Say --image_size if it takes any size."
        )
    options = {
        "label_mode": "int",
        "color_mode": COLORS[shape[-1]],
        "image_size": shape[:2],
        "batch_size": args.batch_size,
        "seed": args.seed,
        "verbose": False,
    }
    read = keras.utils.image_dataset_from_directory
    train = os.path.join(args.data, "train")
    tests = (os.path.join(args.data, name) for name in TEST_NAMES)
    test = next(filter(os.path.isdir, tests), None)
    if os.path.isdir(train) and test:
        options["class_names"] = _classes(train, test)
        return read(train, **options), read(test, **options, shuffle=False)
    folder = train if _folders(args.data) == ["train"] else args.data
    split = {"validation_split": args.validation_split, "subset": "both"}
    return read(folder, **options, **split)


def _classes(train, test):
    """Classes of the training images, which the test images must have too."""
    classes, others = _folders(train), _folders(test)
    if classes != others:
        raise UsageError(
            f"'{train}' has the classes {classes}, '{test}' has {others}. Both "
            "need a folder for every class, if need be an empty one."
        )
    return classes


def _folders(folder):
    found = (x.name for x in os.scandir(folder) if x.is_dir())
    return sorted(name for name in found if not name.startswith("."))


def _tensorflow_dataset(args, shape):
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"There is no file or folder '{args.data}'. For the TensorFlow "
            "data set of that name: `pip install keras_df[examples]`."
        ) from error
    try:
        builder = tfds.builder(args.data, data_dir=args.data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise UsageError(
            f"'{args.data}' is no file, no folder, and no TensorFlow data set "
            f"that can be found: {error}"
        ) from error
    if args.download:
        builder.download_and_prepare()
    if not builder.is_prepared():
        raise UsageError(
            f"The TensorFlow data set '{args.data}' is not prepared in "
            f"'{builder.data_dir}'. Name its folder in --data_dir, or say "
            "--download."
        )
    test = next((x for x in TEST_NAMES if _is_labelled(builder, x)), None)
    splits = ("train", test)
    if test is None:
        kept = round(100 * (1 - args.validation_split))
        splits = (f"train[:{kept}%]", f"train[{kept}%:]")
    train, test = (
        _sized(builder.as_dataset(split=x, as_supervised=True), args, shape)
        for x in splits
    )
    train = train.shuffle(_shuffle_buffer(train), seed=args.seed)
    return train.batch(args.batch_size), test.batch(args.batch_size)


def _is_labelled(builder, split):
    """Whether there is such a split, with labels: hidden ones are -1."""
    import tensorflow as tf

    if split not in builder.info.splits:
        return False
    samples = builder.as_dataset(split=f"{split}[:1]", as_supervised=True)
    labels = (x for _, label in samples for x in tf.nest.flatten(label))
    return not any(x.dtype.is_integer and np.all(x == -1) for x in labels)


def _shuffle_buffer(samples):
    """Number of samples to draw from, half a gigabyte of them if known."""
    spec = samples.element_spec[0]
    if not spec.shape.is_fully_defined():
        return SHUFFLED[0]
    size = spec.shape.num_elements() * spec.dtype.size
    return int(np.clip(SHUFFLED_BYTES // size, *SHUFFLED))


def _sized(samples, args, shape):
    """Samples whose images have the size that the model takes."""
    import tensorflow as tf

    found = tuple(samples.element_spec[0].shape)
    size, wanted = found[:2], shape[:2]
    if len(shape) != 3 or len(found) != 3:
        return samples
    if None not in size and _fits(size, wanted):
        return samples
    if None in wanted:
        raise UsageError(
            f"The model takes inputs of shape {shape}; the images of "
            f"'{args.data}' have the shape {found}. Say --image_size."
        )
    return samples.map(
        lambda x, y: (tf.image.resize(tf.cast(x, "float32"), wanted), y)
    )


def _prepared(batches, args, dtype, augment=False):
    """Scales, and augments, batches."""
    import tensorflow as tf

    layers = []
    if augment:
        layers = [
            keras.layers.RandomFlip("horizontal", seed=args.seed),
            keras.layers.RandomTranslation(0.1, 0.1, seed=args.seed),
        ]

    def prepare(x, y):
        x = tf.cast(x, dtype)
        if (args.scale, args.offset) != (1.0, 0.0):
            x = x * args.scale + args.offset
        for layer in layers:
            x = layer(x, training=True)
        return x, y

    return batches.map(prepare).prefetch(2)

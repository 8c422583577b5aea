"""How fast `.tflite` files run, side by side."""

import time
from dataclasses import dataclass

import numpy as np

from keras_df.checks import check_positive_integer
from keras_df.export.interpreter import allocate
from keras_df.export.interpreter import make_interpreter
from keras_df.files import check_path
from keras_df.graph.analysis import UNKNOWN_SIZE

WARM_UP = 5


@dataclass(frozen=True)
class Timing:
    """The latency of one file, in milliseconds.

    Attributes:
        filepath: Path of the file.
        median: Median of all runs.
        low: 10th percentile.
        high: 90th percentile.
    """

    filepath: str
    median: float
    low: float
    high: float

    def __str__(self):
        return (
            f"{self.filepath}: {self.median:.3f} ms "
            f"({self.low:.3f} to {self.high:.3f})"
        )


def benchmark(
    *filepaths: str, threads: int = 1, repeats: int = 100
) -> list[Timing]:
    """Times `.tflite` files on LiteRT, interleaved.

    Each round runs every file once, so that a busy machine slows all of them
    alike: compare the results as ratios. With one thread it is the CPU time
    of that thread, which leaves out what other processes take. Where a file
    takes inputs of any size, it gets one sample, 224 wide.

    Args:
        *filepaths: Paths of `.tflite` files.
        threads: Number of threads per interpreter.
        repeats: Number of rounds.

    Returns:
        List of `Timing`, one per file.

    Raises:
        ValueError: If no file is given, a file is no `.tflite` file, or a
            number is not a positive integer.

    Example:

    ```python
    before, after = keras_df.export.benchmark("big.tflite", "small.tflite")
    print(before.median / after.median)
    ```
    """
    if not filepaths:
        raise ValueError(
            "`benchmark` takes at least one file: "
            "`benchmark('before.tflite', 'after.tflite')`."
        )
    check_positive_integer("threads", threads)
    check_positive_integer("repeats", repeats)
    contents = [_read(path) for path in filepaths]
    times = 1e3 * interleaved_times(contents, threads, repeats)
    low, median, high = np.percentile(times, (10, 50, 90), axis=0)
    columns = zip(filepaths, median.tolist(), low.tolist(), high.tolist())
    return [Timing(str(path), *values) for path, *values in columns]


def interleaved_times(contents, threads, repeats):
    """Runs LiteRT models in turns.

    Args:
        contents: List of bytes, the `.tflite` files.
        threads: Number of threads per interpreter.
        repeats: Number of rounds.

    Returns:
        Array of shape `(repeats, files)`, seconds.
    """
    interpreters = [_loaded(content, threads) for content in contents]
    # A thread that waits for its turn on a busy machine is not slow.
    clock = time.thread_time if threads == 1 else time.perf_counter
    times = np.zeros((repeats + WARM_UP, len(interpreters)))
    for row in times:
        for column, interpreter in enumerate(interpreters):
            start = clock()
            interpreter.invoke()
            row[column] = clock() - start
    return times[WARM_UP:]


def _read(path):
    check_path("filepaths", path)
    with open(path, "rb") as file:
        content = file.read()
    if content[4:8] != b"TFL3":
        raise ValueError(
            f"'{path}' is not a `.tflite` file, or was cut off. "
            "`keras_df.export.litert` writes one."
        )
    return content


def _loaded(content, threads):
    interpreter = make_interpreter(content, threads)
    details = interpreter.get_input_details()
    allocate(interpreter, [_closed_shape(detail) for detail in details])
    rng = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        values = rng.uniform(0, 1, size=detail["shape"])
        interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
    return interpreter


def _closed_shape(detail):
    """The shape of an input, with one sample and images of a usual size."""
    batch, *sizes = detail["shape_signature"]
    sizes = [UNKNOWN_SIZE if size < 0 else int(size) for size in sizes]
    return (1 if batch < 0 else int(batch), *sizes)

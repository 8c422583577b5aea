import time

import keras
import pytest
from keras import layers

from keras_df.export import benchmark
from keras_df.export import litert
from keras_df.export.latency import interleaved_times


def convolutions(filters, size=24):
    return keras.Sequential(
        [
            keras.Input((size, size, 3)),
            layers.Conv2D(filters, 3, padding="same"),
            layers.Conv2D(filters, 3, padding="same"),
            layers.GlobalAveragePooling2D(),
        ]
    )


@pytest.fixture
def files(tmp_path):
    paths = [str(tmp_path / f"{name}.tflite") for name in ("big", "small")]
    for filters, path in zip((96, 4), paths):
        litert(convolutions(filters), path)
    return paths


def test_the_larger_network_takes_longer(files):
    big, small = benchmark(*files, repeats=15)
    assert [big.filepath, small.filepath] == files
    for result in (big, small):
        assert 0 < result.low <= result.median <= result.high < 1e4
    # It has more than 400 times the multiply-accumulates.
    assert big.median > 3 * small.median


def test_str_is_a_line(files):
    (result,) = benchmark(files[1], repeats=3)
    assert str(result) == (
        f"{files[1]}: {result.median:.3f} ms "
        f"({result.low:.3f} to {result.high:.3f})"
    )


def test_every_file_runs_once_per_round(monkeypatch):
    order = []

    class Recorder:
        def __init__(self, content):
            self.content = content

        def invoke(self):
            order.append(self.content)

    names = interleaved_times.__globals__
    monkeypatch.setitem(names, "_loaded", lambda content, _: Recorder(content))
    monkeypatch.setitem(names, "WARM_UP", 0)
    times = interleaved_times([b"a", b"b"], threads=1, repeats=3)
    assert order == [b"a", b"b"] * 3
    assert times.shape == (3, 2) and (times > 0).all()


def test_what_other_processes_take_does_not_count(monkeypatch):
    class Preempted:
        def invoke(self):
            time.sleep(0.02)

    names = interleaved_times.__globals__
    monkeypatch.setitem(names, "_loaded", lambda content, _: Preempted())
    monkeypatch.setitem(names, "WARM_UP", 0)
    assert interleaved_times([b""], threads=1, repeats=2).max() < 0.01
    # Of several threads, the caller only sees its own.
    assert interleaved_times([b""], threads=2, repeats=2).min() >= 0.02


def test_a_file_for_images_of_any_size(tmp_path):
    path = str(tmp_path / "open.tflite")
    litert(convolutions(2, size=None), path, batch_size=None)
    (result,) = benchmark(path, repeats=3)
    assert result.median > 0


@pytest.mark.parametrize(
    "arguments", [{"repeats": 0}, {"threads": 0}, {"threads": -1}]
)
def test_numbers_that_are_not_positive_are_refused(arguments):
    with pytest.raises(ValueError, match="must be a positive integer"):
        benchmark("a.tflite", **arguments)


def test_no_file_is_refused():
    with pytest.raises(ValueError, match="at least one file"):
        benchmark()


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere"):
        benchmark("nowhere.tflite")

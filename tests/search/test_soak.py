"""Many searches in one process, and two side by side."""

import json
import os
import subprocess
import sys

import keras
import memory_process
import numpy as np
import pytest
from memory_process import a_search
from memory_process import network_search
from memory_process import resident_megabytes
from search_helpers import separable_data
from search_helpers import values

import keras_df as kdf

IS_TENSORFLOW = keras.config.backend() == "tensorflow"


reads_proc = pytest.mark.skipif(
    not os.path.exists("/proc/self/statm"), reason="reads Linux's /proc"
)


@pytest.mark.slow
@reads_proc
def test_twenty_searches_leak_no_memory():
    """TensorFlow keeps every graph it compiled, so there they run eagerly."""
    sizes, searches = [], []
    for _ in range(20):
        searches.append(a_search(run_eagerly=IS_TENSORFLOW))
        sizes.append(resident_megabytes())
    print("resident megabytes:", [round(size, 1) for size in sizes])
    assert max(sizes[3:]) <= 1.05 * sizes[2]
    assert not any(search() for search in searches)


def median_growth(run):
    """Where other tests have left free memory, what is first takes less."""
    process = subprocess.run(
        [sys.executable, memory_process.__file__, run],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(process.stdout.splitlines()[-1])


@pytest.mark.slow
@reads_proc
@pytest.mark.skipif(not IS_TENSORFLOW, reason="about TensorFlow's graphs")
def test_graphs_that_tensorflow_keeps_are_as_those_of_any_training():
    """Beside them nothing of a search stays."""
    training, search = median_growth("training"), median_growth("search")
    print("megabytes kept per training, per search:", training, search)
    assert search <= 1.5 * training + 2.0


class Counting(kdf.SearchModel):
    """Counts how often Python runs a training step: once per trace."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.traces = 0

    def compute_loss(self, *args, **kwargs):
        self.traces += 1
        return super().compute_loss(*args, **kwargs)


@pytest.mark.parametrize("options", [{}, {"steps_per_execution": 3}])
def test_a_step_is_traced_once(options):
    """Refreshes, epochs and further fits do not trace it anew."""
    x, y = separable_data()
    search = network_search(Counting, **options)
    fit = {"batch_size": 32, "verbose": 0}
    search.fit(x, y, epochs=1, **fit)
    traced = search.traces
    search.fit(x, y, epochs=3, **fit)
    assert search.traces == traced
    search.plan()
    search.refresh(None)
    search.fit(x, y, epochs=1, callbacks=[kdf.DFCallback(30)], **fit)
    assert search.traces == traced
    if IS_TENSORFLOW:
        function = search.train_function
        count = getattr(function, "experimental_get_tracing_count", None)
        assert count is None or count() <= 1


def test_an_evaluation_between_fits_traces_no_step_anew():
    x, y = separable_data()
    search = network_search(Counting)
    fit = {"batch_size": 32, "verbose": 0}
    search.fit(x, y, validation_data=(x, y), **fit)
    search.evaluate(x, y, **fit)
    traced = search.traces
    for _ in range(2):
        search.fit(x, y, validation_data=(x, y), **fit)
        search.evaluate(x, y, **fit)
    assert search.traces == traced


def batches(count):
    x, y = separable_data(24 * count)
    return [
        (x[24 * i : 24 * (i + 1)], y[24 * i : 24 * (i + 1)])
        for i in range(count)
    ]


def step(search, number, data):
    """One epoch of one batch, under a schedule of all of them."""
    x, y = data[number]
    schedule = kdf.DFCallback(steps=len(data))
    search.fit(x, y, batch_size=24, verbose=0, callbacks=[schedule])


def test_searches_side_by_side_do_not_disturb_each_other():
    data = batches(5)

    def made(seed):
        keras.utils.set_random_seed(seed)
        return network_search()

    alone = []
    for seed in (1, 2):
        search = made(seed)
        for number in range(len(data)):
            step(search, number, data)
        alone.append(search)
    together = [made(1), made(2)]
    for number in range(len(data)):
        for search in together:
            step(search, number, data)
    for one, other in zip(alone, together):
        for a, b in zip(
            values(one.trainable_variables),
            values(other.trainable_variables),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, atol=1e-5)
        assert one.plan().layers == other.plan().layers
    assert alone[0].plan().layers != alone[1].plan().layers


SEEDED = """
import sys
sys.path.insert(0, sys.argv[1])
import json
import keras
keras.utils.set_random_seed(7)
if keras.config.backend() == "tensorflow":
    import tensorflow as tf
    tf.config.experimental.enable_op_determinism()
from search_helpers import compiled, separable_data, small_network, values
import keras_df as kdf
x, y = separable_data()
search = compiled(kdf.SearchModel(small_network(), kdf.MACs(0.5)))
search.fit(x, y, batch_size=8, epochs=2, verbose=0)
found = [x.tobytes().hex() for x in values(search.trainable_variables)]
print(json.dumps([found, search.plan().get_config()]))
"""


@pytest.mark.slow
def test_a_seeded_search_is_the_same_to_the_bit():
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    runs = [
        subprocess.run(
            [sys.executable, "-c", SEEDED, folder],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()[-1]
        for _ in range(2)
    ]
    first, second = map(json.loads, runs)
    assert first == second

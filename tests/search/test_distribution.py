"""Searches on several devices and hosts, against those on one.

Devices have to be made before anything else runs, so each search is a process
of its own: the example.
"""

import os
import pathlib
import re
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
from search_helpers import compiled
from search_helpers import small_network

import keras_df as kdf

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "distributed" / "search.py"
FLAGS = ["--synthetic", "--batch_size=32", "--epoch_steps=8"]


def start(backend, out, *flags):
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *FLAGS, f"--out={out}", *flags],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": str(ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    """The lines that a process printed."""
    try:
        output, error = process.communicate(timeout=500)
    finally:
        process.kill()
    assert process.returncode == 0, error
    return output.splitlines()


def read(out):
    """Logits, thresholds and moments of a search, and its plan."""
    search = keras.models.load_model(out / "search.keras")
    variables = [search.logits, search.thresholds, search.schedule.step]
    variables += [x.moment for x in search.wrappers.values()]
    variables += [x.left for x in search.relaxation.kernels]
    arrays = [keras.ops.convert_to_numpy(x) for x in variables]
    return arrays, kdf.CompressionPlan.load(out / "plan.json")


def assert_same(actual, expected):
    for one, other in zip(actual[0], expected[0], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)
    assert actual[1].layers == expected[1].layers
    assert actual[1].costs == expected[1].costs


def shown(lines):
    """Accuracy, loss and cost as they were printed, a row per epoch."""
    rows = [re.findall(r": ([\d.]+)", x) for x in lines if "loss:" in x]
    return np.array(rows, float).reshape(2, -1)


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory):
    """A function of a backend: what a search on one device found, printed."""
    known = {}

    def search(backend):
        if backend not in known:
            out = tmp_path_factory.mktemp(backend)
            lines = finished(start(backend, out))
            known[backend] = read(out), shown(lines)
        return known[backend]

    return search


@pytest.mark.parametrize(
    "backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.slow)]
)
def test_two_devices_find_what_one_does(backend, tmp_path, on_one_device):
    """MirroredStrategy on TensorFlow, DataParallel on JAX."""
    pytest.importorskip(backend)
    lines = finished(start(backend, tmp_path, "--virtual_devices=2"))
    expected, progress = on_one_device(backend)
    assert_same(read(tmp_path), expected)
    # Losses and metrics are not added up over the devices.
    np.testing.assert_allclose(shown(lines), progress, rtol=1e-3)


def test_two_hosts_find_what_one_does(tmp_path, on_one_device):
    """Each with two devices."""
    pytest.importorskip("jax")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--hosts=2", f"--coordinator=127.0.0.1:{port}"]
    flags.append("--virtual_devices=2")
    folders = [tmp_path / "0", tmp_path / "1"]
    hosts = [
        start("jax", folder, *flags, f"--process_id={index}")
        for index, folder in enumerate(folders)
    ]
    try:
        for host in hosts:
            finished(host)
    finally:
        for host in hosts:
            host.kill()
    expected, _ = on_one_device("jax")
    for folder in folders:
        assert_same(read(folder), expected)


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="tf.distribute"
)
def test_a_strategy_that_keras_cannot_train_under_is_refused():
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with (
        strategy.scope(),
        pytest.raises(ValueError, match="keras.distribution.initialize"),
    ):
        kdf.SearchModel(small_network(), kdf.MACs(0.5))


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="tf.distribute"
)
def test_one_device_strategy_is_taken():
    import tensorflow as tf

    with tf.distribute.OneDeviceStrategy("cpu:0").scope():
        search = compiled(kdf.SearchModel(small_network(), kdf.MACs(0.5)))
    x = np.ones((8, 8, 8, 3), "float32")
    search.fit(x, np.zeros(8), verbose=0)
    assert search.schedule.count() == 1

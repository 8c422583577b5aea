import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

import keras_df.files
from keras_df.files import read_json
from keras_df.files import replacing
from keras_df.files import replacing_folder
from keras_df.files import write_json

NUMBERS = list(range(20_000))

LOADED = """
import importlib.util, itertools, os, signal, sys

spec = importlib.util.spec_from_file_location("files", sys.argv[1])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
"""
WRITER = f"""{LOADED}
for version in itertools.count(1):
    numbers = list(range(20_000))
    files.write_json(sys.argv[2], {{"version": version, "numbers": numbers}})
"""
KILLED = f"""{LOADED}
with files.replacing_folder(sys.argv[2]) as new:
    open(os.path.join(new, "half"), "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def write(folder, name):
    open(os.path.join(folder, name), "w").close()


def test_the_file_appears_with_what_was_written(tmp_path):
    with replacing(tmp_path / "a.txt") as new:
        assert os.path.basename(new) == "a.txt"
        with open(new, "w") as file:
            file.write("new")
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_error_leaves_the_old_file(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(KeyError), replacing(tmp_path / "a.txt") as new:
        with open(new, "w") as file:
            file.write("new")
        raise KeyError
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_path_without_a_folder_is_in_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with replacing("a.txt") as new, open(new, "w") as file:
        file.write("new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_a_killed_process_leaves_a_whole_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"version": 0, "numbers": NUMBERS})
    for _ in range(8):
        modified = path.stat().st_mtime_ns
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, keras_df.files.__file__, path]
        )
        while path.stat().st_mtime_ns == modified:
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = read_json(path, dict)
        assert found["version"] > 0 and found["numbers"] == NUMBERS
        assert len(os.listdir(tmp_path)) <= 2
    write_json(path, {})
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_json(path, NUMBERS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert json.loads(path.read_text()) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_two_that_write_at_once_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "a.json"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        for new, text in ((first, "first"), (second, "second")):
            with open(new, "w") as file:
                file.write(text)
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "folder"
    for name in ("a", "b"):
        with replacing_folder(folder) as new:
            write(new, name)
        assert os.listdir(folder) == [name]
    assert os.listdir(tmp_path) == ["folder"]


def test_a_failure_leaves_the_folder_as_it_was(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder, "a")
    with pytest.raises(RuntimeError), replacing_folder(folder) as new:
        write(new, "b")
        raise RuntimeError
    assert os.listdir(folder) == ["a"]
    assert os.listdir(tmp_path) == ["folder"]


def test_what_a_killed_process_left_of_a_folder_is_removed(tmp_path):
    folder = tmp_path / "folder"
    command = [sys.executable, "-c", KILLED, keras_df.files.__file__, folder]
    killed = subprocess.run(command)
    assert killed.returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 1 and not folder.exists()
    with replacing_folder(folder) as new:
        write(new, "a")
    assert os.listdir(tmp_path) == ["folder"]


def test_a_mount_point_is_refused_before_the_work(tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder, "a")
    monkeypatch.setattr(os.path, "ismount", lambda path: path == str(folder))
    refused = pytest.raises(OSError, match="mount point.*Name a folder in it")
    with refused, replacing_folder(folder):
        pytest.fail("The work began.")
    assert os.listdir(folder) == ["a"]


@pytest.fixture
def rescued():
    """Files that a rescue has found."""
    return []


@pytest.fixture
def rescue(rescued):
    return lambda new: rescued.extend(os.listdir(new))


def test_what_failed_half_way_can_be_rescued(tmp_path, rescue, rescued):
    folder = tmp_path / "folder"
    with pytest.raises(RuntimeError), replacing_folder(folder, rescue) as new:
        write(new, "a")
        raise RuntimeError
    assert rescued == ["a"]
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "move, error, message",
    [
        (
            "rename",
            (16, "Device or resource busy"),
            "busy. Nothing was written",
        ),
        (
            "replace",
            (28, "No space left on device"),
            "No space.*Nothing was written",
        ),
    ],
)
def test_a_folder_that_cannot_be_moved_can_be_rescued(
    move, error, message, tmp_path, rescue, rescued, monkeypatch
):
    def fail(*args):
        raise OSError(*error)

    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder, "a")
    monkeypatch.setattr(os, move, fail)
    failing = pytest.raises(OSError, match=message)
    with failing, replacing_folder(folder, rescue) as new:
        write(new, "b")
    assert rescued == ["b"]
    assert os.listdir(folder) == ["a"]
    assert os.listdir(tmp_path) == ["folder"]

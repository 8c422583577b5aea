import os

import pytest

from keras_df.files import replacing


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

import os

import pytest

from keras_df.cli.console import UsageError
from keras_df.cli.folder import check_folder


def write(folder, name):
    open(os.path.join(folder, name), "w").close()


def test_a_new_or_empty_folder_may_be_written(tmp_path):
    check_folder(tmp_path, (), overwrite=False)
    check_folder(tmp_path / "new", (), overwrite=False)


def test_known_files_are_replaced_when_asked(tmp_path):
    write(tmp_path, "a")
    with pytest.raises(UsageError, match="--overwrite"):
        check_folder(tmp_path, ("a", "b"), overwrite=False)
    check_folder(tmp_path, ("a", "b"), overwrite=True)


@pytest.mark.parametrize("overwrite", [True, False])
def test_other_files_are_never_replaced(tmp_path, overwrite):
    write(tmp_path, "a")
    write(tmp_path, "thesis")
    with pytest.raises(UsageError, match="'thesis'.*lost"):
        check_folder(tmp_path, ("a",), overwrite)
    with pytest.raises(UsageError, match="not a folder"):
        check_folder(tmp_path / "a", ("a",), overwrite)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="not a folder"):
        check_folder(tmp_path / "link", ("a",), overwrite)
    with pytest.raises(UsageError, match="no folder"):
        check_folder(tmp_path / "no/where", ("a",), overwrite)


@pytest.mark.parametrize("name", [".", "", "../here", "link"])
def test_the_folder_that_one_is_in_is_not_replaced(name, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    folder = name or str(here)
    if name == "link":
        folder = tmp_path / "up" / "here"
        (tmp_path / "up").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="the folder that you are in"):
        check_folder(folder, (), overwrite=True)

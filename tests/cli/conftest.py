import keras
import pytest
from cli_helpers import Cli
from cli_helpers import write_files


@pytest.fixture(autouse=True)
def only_on_tensorflow():
    if keras.config.backend() != "tensorflow":
        pytest.skip("only the TensorFlow backend exports")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Paths of a model and of its data."""
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture
def model_file(files):
    return files[0]


@pytest.fixture
def data_file(files):
    return files[1]


@pytest.fixture
def cli(capsys):
    return Cli(capsys)

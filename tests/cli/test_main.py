import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import keras_df as kdf
from keras_df.cli import main
from keras_df.cli.main import make_parser

COMMANDS = (
    "inspect",
    "count",
    "compress",
    "apply",
    "export",
    "benchmark",
    "report",
)


def test_every_command_has_help_with_examples(cli):
    status, out, err = cli.run("--help")
    assert (status, err) == (0, "")
    assert "examples:" in out and "exit status" in out
    for command in COMMANDS:
        assert f"\n    {command}" in out
        status, text, err = cli.run(command, "--help")
        assert (status, err) == (0, "")
        assert "examples:" in text and f"keras-df {command} " in text


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_in_the_help_are_command_lines(command, cli):
    _, out, _ = cli.run(command, "--help")
    lines = out[out.index("examples:") :].splitlines()[1:]
    assert lines
    for line in lines:
        words = line.split("|")[0].split()
        assert words[:2] == ["keras-df", command]
        assert make_parser().parse_args(words[1:]).command == command


def test_the_version(cli):
    assert cli.run("--version")[:2] == (0, f"keras-df {kdf.__version__}\n")


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "required: command"),
        (["compres"], "invalid choice: 'compres'"),
        (["count"], "required: model"),
        (["count", "m.keras", "--nonsense"], "--nonsense"),
        (["count", "m.keras", "--lay"], "--lay"),
        (["compress", "m.keras"], "--out"),
        (["inspect", "m.keras", "--budget", "half"], "invalid float"),
        (["inspect", "m.keras", "--resource", "joules"], "choose from"),
    ],
)
def test_wrong_command_lines_say_so_in_one_line(argv, message, capsys):
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err
    assert err.startswith("keras-df") and err.count("\n") == 1


def test_a_missing_file_is_a_wrong_command_line(cli, tmp_path):
    missing = tmp_path / "none.keras"
    assert f"no '{missing}'" in cli.refuse(2, "count", missing)


def test_a_file_of_another_kind_is_refused(cli, tmp_path):
    other = tmp_path / "model.pkl"
    other.write_bytes(b"")
    assert "no .keras file" in cli.refuse(2, "count", other)


def test_a_damaged_file_is_failed_work(cli, tmp_path, model_file):
    damaged = tmp_path / "model.keras"
    damaged.write_bytes(model_file.read_bytes()[:500])
    cli.refuse(1, "count", damaged)


def test_a_traceback_on_request(cli, tmp_path):
    damaged = tmp_path / "model.keras"
    damaged.write_bytes(b"nothing")
    with pytest.raises(Exception, match=r"model\.keras|zip"):
        cli.run("count", damaged, "--traceback")


def test_an_interrupt_is_told(cli, model_file, monkeypatch):
    def interrupt(model):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_df.cli.inspection.count", interrupt)
    assert "interrupted" in cli.refuse(130, "count", model_file)


def test_a_termination_is_an_interrupt(cli, model_file, monkeypatch):
    def handle(*args):
        pytest.fail("The command let it pass.")

    def terminate(model):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("keras_df.cli.inspection.count", terminate)
    before = signal.signal(signal.SIGTERM, handle)
    try:
        assert "interrupted" in cli.refuse(130, "count", model_file)
        assert signal.getsignal(signal.SIGTERM) is handle
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_command_runs_in_any_thread(cli, model_file):
    with ThreadPoolExecutor() as pool:
        status, _, _ = pool.submit(cli.run, "count", model_file).result()
    assert status == 0


def test_a_reader_may_go_away(model_file, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        assert main(["count", str(model_file)]) == 0


def test_a_model_that_executes_code_is_not_loaded(cli, tmp_path):
    import keras

    inputs = keras.Input((3,))
    outputs = keras.layers.Lambda(lambda x: x)(inputs)
    keras.Model(inputs, outputs).save(tmp_path / "lambda.keras")
    error = cli.refuse(1, "count", tmp_path / "lambda.keras")
    assert "lambda" in error.lower() and "safe" in error.lower()


def shell(*argv):
    """Runs Python in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, *map(str, argv)],
        capture_output=True,
        text=True,
        env=environment,
    )


def test_json_is_alone_on_stdout(model_file):
    """TensorFlow's notes, written while it is imported, go to stderr."""
    done = shell("-m", "keras_df", "count", model_file, "--json")
    found = json.loads(done.stdout)
    assert found["macs"] == sum(layer["macs"] for layer in found["layers"])
    assert done.returncode == 0


def test_the_package_as_a_program():
    done = shell("-m", "keras_df", "count", "none.keras")
    assert (done.returncode, done.stdout) == (2, "")
    last = done.stderr.splitlines()[-1]
    assert last == "keras-df count: There is no 'none.keras'."

import keras
import pytest

import keras_df as kdf


@pytest.fixture
def model(model_file):
    return keras.saving.load_model(model_file)


def test_count_is_that_of_the_library(cli, model_file, model):
    counted = kdf.count(model)
    found = cli.json("count", model_file)
    assert found["macs"] == counted.macs
    assert found["flops"] == counted.flops
    assert found["params"] == counted.params
    assert [x["name"] for x in found["layers"]] == [
        x.name for x in counted.layers
    ]
    status, out, err = cli.run("count", model_file)
    assert (status, out, err) == (0, f"{counted}\n", "")


def test_count_shows_layers(cli, model_file, model):
    _, out, _ = cli.run("count", model_file, "--layers")
    for layer, line in zip(kdf.count(model).layers, out.splitlines()[1:]):
        assert line.startswith(layer.name)
        assert f" {layer.macs:,} MACs" in line


def test_inspect_is_that_of_the_library(cli, model_file, model):
    _, out, _ = cli.run("inspect", model_file)
    assert out == f"{kdf.inspect(model)}\n"
    found = cli.json("inspect", model_file)
    assert found["smallest"] == kdf.inspect(model).smallest


def test_inspect_takes_constraints(cli, model_file, model):
    constraints = kdf.Constraints(
        round_to=4, min_channels=2, skip=("stem", "out*"), decompose=False
    )
    expected = kdf.inspect(model, constraints=constraints)
    flags = "--round_to 4 --min_channels 2 --skip stem --skip out* "
    flags += "--no_decompose"
    _, out, _ = cli.run("inspect", model_file, *flags.split())
    assert out == f"{expected}\n"


def test_inspect_takes_a_scheme(cli, model_file, model):
    constraints = kdf.Constraints(scheme=1)
    expected = kdf.inspect(model, constraints=constraints)
    assert str(expected) != str(kdf.inspect(model))
    _, out, _ = cli.run("inspect", model_file, "--scheme", 1)
    assert out == f"{expected}\n"


def test_inspect_refuses_what_cannot_be_reached(cli, model_file):
    cli.json("inspect", model_file, "--budget", 0.5, "--resource", "macs")
    error = cli.refuse(1, "inspect", model_file, "--budget", 0.0001)
    assert "the smallest is" in error


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--budget -1", "positive"),
        ("--budget 0", "positive"),
        ("--budget nan", "finite"),
        ("--round_to 0", "round_to"),
        ("--no_prune --no_decompose", "nothing can be"),
        ("--resource latency --budget 0", "positive"),
        ("--resource latency", "needs a --budget"),
        ("--resource latency --budget 0.5 --latency_table no.json", "no.json"),
    ],
)
def test_inspect_refuses_wrong_values(cli, model_file, flags, message):
    assert message in cli.refuse(2, "inspect", model_file, *flags.split())


def test_inspect_reads_a_latency_table(cli, model_file, model, tmp_path):
    rates = [1.0, 0.01, 0.01, 1.0]
    paths = kdf.baselines.random(model, kdf.MACs(1.0)).layers
    table = kdf.LatencyTable(
        {
            x: {"dense": rates, "1": [rates] * 2, "2": [rates] * 2}
            for x in paths
        },
        operators={},
        per_flop=1e-4,
        fixed=3.0,
        tile=8,
    )
    table.save(tmp_path / "table.json")
    flags = ["--resource", "latency", "--budget", 0.5]
    flags += ["--latency_table", tmp_path / "table.json"]
    found = cli.json("inspect", model_file, *flags)
    expected = kdf.inspect(model, kdf.Latency(0.5, table))
    assert found["totals"]["latency"] == expected.totals["latency"]


def test_benchmark_times_files(cli, model, tmp_path):
    path = tmp_path / "model.tflite"
    kdf.export.litert(model, path)
    found = cli.json("benchmark", path, path, "--repeats", 5)["files"]
    assert [x["filepath"] for x in found] == [str(path)] * 2
    assert found[0]["speedup"] == 1
    assert found[1]["speedup"] == found[0]["median"] / found[1]["median"]
    assert all(0 < x["low"] <= x["median"] <= x["high"] for x in found)


def test_benchmark_refuses_wrong_values(cli, tmp_path):
    path = tmp_path / "model.tflite"
    assert "no '" in cli.refuse(2, "benchmark", path)
    path.write_bytes(b"nothing")
    assert "positive" in cli.refuse(2, "benchmark", path, "--repeats", 0)
    cli.refuse(1, "benchmark", path)

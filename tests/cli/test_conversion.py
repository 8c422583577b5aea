import json

import keras
import numpy as np
import pytest

import keras_df as kdf
from keras_df.export import Timing


@pytest.fixture
def model(model_file):
    return keras.saving.load_model(model_file)


@pytest.fixture
def plan(model):
    return kdf.baselines.uniform_rank(model, kdf.MACs(0.6))


@pytest.fixture
def plan_file(plan, tmp_path):
    plan.save(tmp_path / "plan.json")
    return tmp_path / "plan.json"


def outputs(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def images(data_file):
    return np.load(data_file)["x"]


def test_apply_is_compress(
    cli, model_file, data_file, plan_file, model, plan, tmp_path
):
    out = tmp_path / "small.keras"
    found = cli.json("apply", model_file, plan_file, "--out", out)
    small, x = keras.saving.load_model(out), images(data_file)
    expected = kdf.compress(model, plan)
    np.testing.assert_allclose(outputs(small, x), outputs(expected, x), 1e-5)
    assert found["file"] == str(out)
    assert found["costs"]["macs"] == list(plan.costs["macs"])


def test_apply_with_data_recalibrates(
    cli, model_file, data_file, plan_file, tmp_path
):
    out, x = tmp_path / "small.keras", images(data_file)
    cli.json("apply", model_file, plan_file, "--out", out, "--data", data_file)
    small = keras.saving.load_model(out)
    # Every sample is read once, so the mean is known.
    stem = keras.Model(small.inputs, small.get_layer("stem_bn").input)
    mean = outputs(stem, x).mean((0, 1, 2))
    norm = small.get_layer("stem_bn")
    np.testing.assert_allclose(norm.moving_mean, mean, atol=1e-4)


@pytest.mark.parametrize("quantize", ["float32", "float16", "dynamic", "int8"])
def test_export_to_litert(cli, model_file, data_file, quantize, tmp_path):
    out = tmp_path / "model.tflite"
    flags = ["--quantize", quantize, "--data", data_file]
    found = cli.json("export", model_file, out, *flags)
    assert found["file"] == str(out) and out.read_bytes()[4:8] == b"TFL3"
    assert 0 < found["max_difference"] < 0.5
    cli.json("benchmark", out, "--repeats", 1)


def test_export_a_saved_model(cli, model_file, model, data_file, tmp_path):
    import tensorflow as tf

    out, x = tmp_path / "served", images(data_file)
    cli.json("export", model_file, out)
    loaded = tf.saved_model.load(str(out))
    np.testing.assert_allclose(loaded.serve(x), outputs(model, x), atol=1e-4)


def test_export_onnx(cli, model_file, model, tmp_path, data_file):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    out, x = tmp_path / "model.onnx", images(data_file)
    cli.json("export", model_file, out)
    session = runtime.InferenceSession(out)
    name = session.get_inputs()[0].name
    (found,) = session.run(None, {name: x})
    np.testing.assert_allclose(found, outputs(model, x), atol=1e-4)


def test_report_is_the_librarys(
    cli, model_file, plan_file, model, plan, tmp_path
):
    outcome = kdf.report.Outcome(
        accuracy={"a": 0.5, "b": 0.25},
        latency={"a": Timing("a", 1, 1, 1), "b": Timing("b", 2, 2, 2)},
        history={"loss": [1.0, 0.5]},
    )
    for index, config in enumerate(
        (outcome.get_config(), {"outcome": outcome.get_config()})
    ):
        measured = tmp_path / f"measured{index}.json"
        measured.write_text(json.dumps(config))
        out = tmp_path / f"report{index}.html"
        flags = ["--out", out, "--outcome", measured]
        cli.json("report", model_file, plan_file, *flags)
        kdf.report.html(model, plan, tmp_path / "expected.html", outcome)
        assert out.read_bytes() == (tmp_path / "expected.html").read_bytes()


def test_report_without_an_outcome(cli, model_file, plan_file, tmp_path):
    out = tmp_path / "report.html"
    found = cli.json("report", model_file, plan_file, "--out", out)
    assert found["file"] == str(out)
    assert "Layers" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "command, name",
    [
        ("apply {model} {plan} --out {out}", "small.keras"),
        ("report {model} {plan} --out {out}", "report.html"),
        ("export {model} {out}", "model.tflite"),
        ("export {model} {out}", "saved"),
    ],
)
def test_nothing_is_replaced_unasked(
    cli, model_file, plan_file, command, name, tmp_path
):
    out = tmp_path / name
    paths = {"model": model_file, "plan": plan_file, "out": out}
    argv = command.format(**paths).split()
    cli.json(*argv)
    is_folder = out.is_dir()
    before = None if is_folder else out.stat().st_mtime_ns
    assert "--overwrite" in cli.refuse(2, *argv)
    assert is_folder or out.stat().st_mtime_ns == before
    cli.json(*argv, "--overwrite")
    assert is_folder or out.stat().st_mtime_ns > before


@pytest.mark.parametrize(
    "command, message",
    [
        ("apply {model} {plan} --out a.h5", "must end in .keras"),
        ("apply {model} none.json --out {tmp}/a.keras", "no 'none.json'"),
        ("apply {model} {plan} --out {tmp}/none/a.keras", "no folder"),
        ("report {model} {plan} --out a.pdf", "must end in .html"),
        ("report {model} {plan} --out {tmp}/a.html --outcome no", "no 'no'"),
        ("export {model} {tmp}/a.pb", "must end in .tflite or .onnx"),
        ("export {model} {tmp}/a.tflite --quantize int8", "--data"),
        ("export {model} {tmp}/a --quantize int8", "for .tflite files"),
        ("export {model} {tmp}/none/a.tflite", "no folder"),
    ],
)
def test_wrong_command_lines_are_refused(
    cli, model_file, plan_file, command, message, tmp_path
):
    paths = {"model": model_file, "plan": plan_file, "tmp": tmp_path}
    assert message in cli.refuse(2, *command.format(**paths).split())


def test_files_that_do_not_fit_are_failed_work(cli, model_file, plan, tmp_path):
    config = plan.get_config()
    config["layers"].pop("stem")
    (tmp_path / "plan.json").write_text(json.dumps(config))
    (tmp_path / "damaged.json").write_text("{")
    out = tmp_path / "small.keras"
    for name, message in (
        ("plan.json", "another model"),
        ("damaged.json", "damaged.json"),
    ):
        argv = ["apply", model_file, tmp_path / name, "--out", out]
        assert message in cli.refuse(1, *argv)
    assert not out.exists()

import json
import os

import keras
import numpy as np
import pytest

import keras_df as kdf
from keras_df.cli import main
from keras_df.cli.pipeline import FILES

FAST = ["--search_steps", "12", "--finetune_epochs", "1", "--repeats", "3"]


@pytest.fixture(scope="module")
def compressed(files, tmp_path_factory):
    """A folder that the command has written."""
    model, data = map(str, files)
    out = tmp_path_factory.mktemp("compressed") / "small"
    argv = ["compress", model, "--data", data, "--out", str(out), *FAST]
    argv += ["--budget", "0.6", "--resource", "macs", "--quiet"]
    assert main(argv) == 0
    return out


@pytest.fixture
def report(compressed):
    return json.loads((compressed / "report.json").read_text())


def test_the_folder_is_complete(compressed):
    assert sorted(os.listdir(compressed)) == sorted(FILES)
    assert os.listdir(compressed.parent) == ["small"]


def test_the_plan_meets_the_budget(compressed, model_file, report):
    plan = kdf.CompressionPlan.load(compressed / "plan.json")
    model = keras.saving.load_model(model_file)
    plan.validate(model)
    assert plan.budget == report["budget"] == ["MACs(0.6)"]
    before, after = report["costs"]["macs"]
    assert before == kdf.count(model).macs
    assert after <= 0.6 * before


def test_the_model_is_what_the_plan_and_the_report_say(
    compressed, data_file, report
):
    small = keras.saving.load_model(compressed / "small.keras")
    for name in ("macs", "flops", "params"):
        after = report["costs"][name][1]
        assert getattr(kdf.count(small), name) == after
    data = np.load(data_file)
    right = small.predict(data["x_test"], verbose=0).argmax(-1)
    expected = np.mean(right == data["y_test"])
    accuracy = report["outcome"]["accuracy"]
    assert list(accuracy) == ["original", "recalibrated", "fine-tuned"]
    assert accuracy["fine-tuned"] == pytest.approx(expected)


def test_the_report_has_what_was_measured(compressed, report):
    outcome = kdf.report.Outcome.from_config(report["outcome"])
    sizes = list(outcome.size.values())
    assert sizes[1] == os.path.getsize(compressed / "small.tflite")
    assert outcome.history["step"] == list(range(1, 13))
    assert set(outcome.latency) == {"original", "compressed"}
    assert report["seconds"]["search"] > 0
    assert 0 <= report["tflite_max_difference"] < 1e-3


def test_the_page_is_that_of_the_report(
    compressed, model_file, report, tmp_path
):
    model = keras.saving.load_model(model_file)
    plan = kdf.CompressionPlan.load(compressed / "plan.json")
    outcome = kdf.report.Outcome.from_config(report["outcome"])
    kdf.report.html(model, plan, tmp_path / "page.html", outcome)
    page = (compressed / "report.html").read_text(encoding="utf-8")
    # What JSON keeps of a number is what the page shows of it.
    assert page == (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_folder_of_images_and_int8(cli, model_file, tmp_path):
    photos, rng = tmp_path / "photos", np.random.default_rng(0)
    for value in range(3):
        os.makedirs(photos / f"class{value}")
        for index in range(8):
            image = rng.uniform(0, 100, (8, 8, 3))
            image[..., value] += 150
            keras.utils.save_img(
                photos / f"class{value}/{index}.png", image, scale=False
            )
    argv = ["compress", model_file, "--data", photos, "--quantize", "int8"]
    argv += ["--out", tmp_path / "small", "--batch_size", 8]
    argv += ["--scale", 0.02, "--offset", -2, *FAST, "--search_epochs", 2]
    found = cli.json(*argv, "--finetune_epochs", 0)
    assert list(found["outcome"]["accuracy"]) == ["original", "recalibrated"]
    labels = ["original, float32", "compressed, int8"]
    assert list(found["outcome"]["latency"]) == labels
    with open(found["files"]["report.json"]) as file:
        steps = json.load(file)["outcome"]["history"]["step"]
    assert steps[-1] == 2 * 3  # 22 training images in batches of 8


@pytest.mark.parametrize("flags", [[], ["--teacher", "none"]])
def test_the_original_teaches_unless_told_otherwise(
    cli, files, tmp_path, monkeypatch, flags
):
    teachers = []

    def record(small, *args, teacher, **options):
        teachers.append(teacher)

    monkeypatch.setattr("keras_df.cli.pipeline.fine_tune", record)
    model, data = files
    argv = ["compress", model, "--data", data, "--out", tmp_path / "small"]
    found = cli.json(*argv, *FAST, *flags)
    (teacher,) = teachers
    if flags:
        assert teacher is None
    else:
        assert kdf.count(teacher).macs == found["costs"]["macs"][0]


def test_only_a_folder_of_its_own_is_replaced(
    cli, compressed, model_file, data_file
):
    argv = ["compress", model_file, "--data", data_file, *FAST]
    argv += ["--out", compressed]
    before = {x: (compressed / x).read_bytes() for x in FILES}
    assert "--overwrite" in cli.refuse(2, *argv)
    (compressed / "thesis.txt").write_text("dear to me")
    try:
        assert "thesis.txt" in cli.refuse(2, *argv, "--overwrite")
    finally:
        (compressed / "thesis.txt").unlink()
    argv += ["--overwrite"]
    # Work that fails leaves it as it was.
    assert "the smallest is" in cli.refuse(1, *argv, "--budget", 0.0001)
    assert before == {x: (compressed / x).read_bytes() for x in FILES}
    assert os.listdir(compressed.parent) == ["small"]


@pytest.mark.slow
def test_an_older_folder_is_replaced(cli, model_file, data_file, tmp_path):
    out = tmp_path / "small"
    argv = ["compress", model_file, "--data", data_file, "--out", out, *FAST]
    cli.json(*argv, "--budget", 0.9)
    cli.json(*argv, "--budget", 0.5, "--overwrite")
    plan = kdf.CompressionPlan.load(out / "plan.json")
    assert plan.budget == ["FLOPs(0.5)"]


@pytest.mark.slow
def test_a_latency_that_is_measured(cli, model_file, data_file, tmp_path):
    argv = ["compress", model_file, "--data", data_file, *FAST]
    argv += ["--out", tmp_path / "small", "--resource", "latency"]
    found = cli.json(*argv, "--budget", 0.9)
    before, after = found["costs"]["latency"]
    assert after <= 0.9 * before


@pytest.mark.parametrize(
    "argv, message",
    [
        ("--data {data} --out {model}", "not a folder"),
        ("--data {data} --out {tmp}/no/where", "no folder"),
        ("--data none.npz --out {tmp}/small", "no 'none.npz'"),
        ("--data {data} --out {tmp}/small --search_steps 0", "search_steps"),
        ("--data {data} --out {tmp}/small --learning_rate 0", "learning_rate"),
        ("--data {data} --out {tmp}/small --finetune_epochs -1", "finetune"),
        ("--data {data} --out {tmp}/small --budget 0", "positive"),
        ("--data {data} --out {tmp}/small --threads 0", "threads"),
        ("--data {data} --out {tmp}/small --latency_table t", "--resource"),
    ],
)
def test_wrong_command_lines_write_nothing(
    cli, model_file, data_file, argv, message, tmp_path
):
    paths = {"model": model_file, "data": data_file, "tmp": tmp_path}
    words = argv.format(**paths).split()
    assert message in cli.refuse(2, "compress", model_file, *words)
    assert not os.listdir(tmp_path)


def test_progress_is_told_on_stderr(cli, model_file, data_file, tmp_path):
    argv = ["compress", model_file, "--data", data_file, "--budget", 1e-4]
    _, out, err = cli.run(*argv, "--out", tmp_path / "small")
    assert out == ""
    assert "2 training and 1 test batches" in err
    assert "from_logits=True" in err and "'logits'" in err


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_what_cannot_be_exported_is_known_before_the_search(
    cli, model_file, data_file, tmp_path, monkeypatch, precision
):
    def fail(model, path, quantize, calibration):
        if (quantize or "float32") == precision:
            raise RuntimeError("no such operator")

    monkeypatch.setattr("keras_df.cli.pipeline.litert", fail)
    monkeypatch.setattr("keras_df.cli.pipeline._search", pytest.fail)
    argv = ["compress", model_file, "--data", data_file]
    argv += ["--quantize", precision]
    assert "operator" in cli.refuse(1, *argv, "--out", tmp_path / "small")
    assert not os.listdir(tmp_path)


def test_a_plan_survives_a_failure_after_the_search(
    cli, model_file, data_file, tmp_path, monkeypatch
):
    def fail(*args):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("keras_df.cli.pipeline._fine_tune", fail)
    argv = ["compress", model_file, "--data", data_file, *FAST]
    status, _, err = cli.run(*argv, "--out", tmp_path / "small")
    (kept,) = tmp_path.iterdir()
    assert (status, kept.name[:11]) == (1, "small-plan-")
    assert str(kept) in err and err.endswith("out of memory\n")
    plan = kdf.CompressionPlan.load(kept)
    plan.validate(keras.saving.load_model(model_file))


@pytest.mark.parametrize(
    "step",
    ["cli.pipeline.html", "cli.pipeline.write_json", "files._move_into_place"],
)
def test_a_network_survives_a_failure_after_the_fine_tuning(
    cli, model_file, data_file, tmp_path, monkeypatch, step
):
    def fail(*args):
        raise RuntimeError("disk full")

    monkeypatch.setattr(f"keras_df.{step}", fail)
    argv = ["compress", model_file, "--data", data_file, *FAST]
    _, _, err = cli.run(*argv, "--out", tmp_path / "small")
    plan, network = sorted(tmp_path.iterdir())
    assert (plan.suffix, network.name[:12]) == (".json", "small-small-")
    assert str(network) in err
    plan = kdf.CompressionPlan.load(plan)
    small = keras.saving.load_model(network)
    assert kdf.count(small).flops == plan.costs["flops"][1]


def test_another_backend_is_refused_before_the_search(
    cli, model_file, data_file, tmp_path, monkeypatch
):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    argv = ["compress", model_file, "--data", data_file]
    assert "TensorFlow" in cli.refuse(1, *argv, "--out", tmp_path / "small")

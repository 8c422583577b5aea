"""Every example runs as it is; here with next to no steps."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def run(script, folder, *options):
    """Runs an example in a folder of its own; returns what it printed."""
    paths = [str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def steps(count, *names):
    return [f"--{name}_steps={count}" for name in names]


def check_budget(report, budget, cost):
    share = report[f"{cost}_after"] / report[f"{cost}_before"]
    assert budget - 0.02 < share <= budget


@pytest.mark.slow
def test_transfer_learning(tmp_path):
    run(
        "transfer_learning.py",
        tmp_path,
        "--alpha=0.25",
        *steps(3, "pretrain", "head", "whole", "search", "finetune"),
    )
    report = read(tmp_path / "transfer_learning_out" / "report.json")
    check_budget(report, 0.3, "flops")
    assert report["tflite_max_abs_diff"] < 1e-3
    assert report["params_after"] < report["params_before"]
    assert 0 <= report["accuracy_finetuned"] <= 1


@pytest.mark.slow
def test_transfer_learning_on_folders_of_images(tmp_path):
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "owl"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(8):
            keras.utils.save_img(
                tmp_path / "images" / name / f"{number}.png",
                rng.uniform(0, 255, (40, 36, 3)),
            )
    run(
        "transfer_learning.py",
        tmp_path,
        "--data_dir=images",
        "--alpha=0.25",
        *steps(1, "pretrain", "head", "whole", "search", "finetune"),
    )
    folder = tmp_path / "transfer_learning_out"
    small = keras.models.load_model(folder / "small.keras")
    assert small.output_shape == (None, 3)
    check_budget(read(folder / "report.json"), 0.3, "flops")


@pytest.mark.slow
def test_phone(tmp_path):
    run(
        "phone.py",
        tmp_path,
        "--alpha=0.35",
        "--image_size=32",
        # What has learned nothing does not survive int8.
        *steps(60, "train", "finetune"),
        *steps(3, "search"),
    )
    report = read(tmp_path / "phone_out" / "report.json")
    assert report["flops_after"] <= 0.4 * report["flops_before"]
    files = report["files"]
    assert len(files) == 4
    sizes = {name: row["bytes"] for name, row in files.items()}
    assert sizes["small, int8"] < sizes["small, float32"]
    assert sizes["small, float32"] < 0.7 * sizes["original, float32"]
    for name, when in (("original", "before"), ("small", "after")):
        on_file = files[f"{name}, float32"]["accuracy"]
        assert on_file == pytest.approx(report[f"accuracy_{when}"], abs=0.01)


@pytest.mark.slow
def test_segmentation(tmp_path):
    run(
        "segmentation.py",
        tmp_path,
        "--images=128",
        *steps(30, "train"),
        *steps(5, "search", "finetune"),
    )
    report = read(tmp_path / "segmentation_out" / "report.json")
    check_budget(report, 0.25, "macs")
    # A network that has learned nothing finds the background alone.
    assert report["iou_before"] > 0.25
    assert report["tflite_max_abs_diff"] < 1e-3


@pytest.mark.slow
def test_compare_baselines(tmp_path):
    printed = run(
        "compare_baselines.py",
        tmp_path,
        *steps(3, "train", "search", "finetune"),
    )
    rows = read(tmp_path / "compare_baselines_out" / "report.json")
    assert len(rows) == 8
    for name, row in rows.items():
        assert name in printed
        assert 0.18 < row["macs"] <= 0.2
        assert 0 <= row["finetuned"] <= 1


def test_custom_layer(tmp_path):
    printed = run("custom_layer.py", tmp_path)
    difference = float(printed.split("by")[-1])
    assert difference < 1e-5


@pytest.mark.slow
def test_latency(tmp_path):
    printed = run(
        "latency.py", tmp_path, "--model=MobileNet", "--image_size=32"
    )
    predicted = printed.split("predicted ")[-1].split()
    assert float(predicted[-1].rstrip("%")) <= 60.0
    assert (tmp_path / "latency.json").exists()

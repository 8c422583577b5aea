import json
import subprocess
import sys
import time

import pytest

HEAVY = (
    *("matplotlib", "tensorflow_datasets", "sklearn", "ai_edge_litert"),
    *("tensorflow_model_optimization", "onnxruntime", "tf2onnx"),
)
REPORT = """
import json, os, sys
import keras
known = dict(os.environ), set(sys.modules)
import keras_df
print(json.dumps({
    "environment": dict(os.environ) == known[0],
    "modules": sorted({m.split(".")[0] for m in set(sys.modules) - known[1]}),
}))
"""


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout


def test_import_brings_in_nothing_heavy_and_changes_no_environment():
    report = json.loads(run(REPORT).splitlines()[-1])
    assert report["environment"]
    assert "keras_df" in report["modules"]
    assert not {*HEAVY, "tf_keras", "IPython"} & set(report["modules"])


def seconds(code):
    start = time.perf_counter()
    run(code)
    return time.perf_counter() - start


@pytest.mark.slow
def test_import_takes_little_longer_than_that_of_keras():
    pairs = []
    # A busy machine slows both of a pair: the best of a few pairs counts.
    for _ in range(5):
        pairs.append((seconds("import keras"), seconds("import keras_df")))
        alone, ours = (min(times) for times in zip(*pairs))
        if ours <= alone + 0.2:
            return
    raise AssertionError(f"keras: {alone:.2f} s, keras_df: {ours:.2f} s")

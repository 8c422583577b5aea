"""Files execute nothing, and nothing goes over the network."""

import ast
import json
import os
import socket
import zipfile

import keras
import numpy as np
import pytest
from keras import layers
from search_helpers import compiled
from search_helpers import separable_data
from search_helpers import small_network

import keras_df as kdf

PACKAGE = os.path.dirname(kdf.__file__)


def modules():
    for folder, _, names in os.walk(PACKAGE):
        for name in sorted(names):
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                with open(path, encoding="utf-8") as file:
                    yield os.path.relpath(path, PACKAGE), file.read()


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


NETWORK = {"socket", "urllib", "requests", "http", "ftplib", "aiohttp"}
EXECUTION = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}


@pytest.mark.parametrize("module, code", list(modules()), ids=lambda x: x[:40])
def test_no_module_unpickles_evaluates_or_downloads(module, code):
    tree = ast.parse(code)
    assert not {*NETWORK, *EXECUTION} & set(imported(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            is_plain = isinstance(node.func, ast.Name)
            assert not (is_plain and name in ("eval", "exec", "compile"))
            assert name not in ("get_file", "enable_unsafe_deserialization")
        if isinstance(node, ast.keyword):
            is_false = getattr(node.value, "value", None) is False
            assert node.arg != "allow_pickle" or is_false
            assert node.arg != "safe_mode" or not is_false


ORDERS = (
    {"class_name": "Lambda", "config": {"function": "os.system('true')"}},
    {"__class__": "subprocess.Popen", "args": ["touch", "owned"]},
    {"$type": "os.system", "module": "os", "class_name": "system"},
)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "place", ["layers", "costs", "budget", "notes", "layer"]
)
def test_a_plan_that_gives_orders_is_text(order, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = small_network()
    config = kdf.baselines.random(model, kdf.MACs(0.6)).get_config()
    if place == "layer":
        config["layers"]["stem"] = order
    else:
        config[place] = order
    (tmp_path / "plan.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"plan\.json"):
        kdf.CompressionPlan.load("plan.json")
    assert os.listdir(tmp_path) == ["plan.json"]


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch owned']",
        "cos\nsystem\n(S'touch owned'\ntR.",
        "__import__('os').system('touch owned')",
        '{"a":' * 50_000,
        "[" * 50_000 + "]" * 50_000,
        "1e999999",
        "-" + "9" * 100_000,
        '{"format": "keras_df.CompressionPlan", "version": 1e400}',
        "\ufeff{}",
        '"\\ud800"',
    ],
    ids=[
        "yaml",
        "pickle",
        "code",
        "deep",
        "lists",
        "inf",
        "int",
        "v",
        "bom",
        "u",
    ],
)
@pytest.mark.parametrize("kind", [kdf.CompressionPlan, kdf.LatencyTable])
def test_a_hostile_file_is_refused(kind, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"Cannot read 'file\.json'"):
        kind.load("file.json")
    assert os.listdir(tmp_path) == ["file.json"]


def test_huge_integers_in_a_plan_are_refused(tmp_path):
    model = small_network()
    config = kdf.baselines.random(model, kdf.MACs(0.6)).get_config()
    config["layers"]["stem"]["kept"] = [0, 10**4000]
    (tmp_path / "plan.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="'stem'.*within 0 and 7"):
        kdf.CompressionPlan.load(tmp_path / "plan.json")


def with_lambda():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, name="conv")(inputs)
    x = layers.Lambda(lambda t: t * 2.0, name="doubled")(x)
    x = layers.Conv2D(8, 3, name="conv2")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def test_a_saved_search_brings_no_code_along(tmp_path):
    """Keras's safe mode refuses the Python code of a Lambda layer."""
    search = kdf.SearchModel(with_lambda(), kdf.MACs(0.6))
    search.save(tmp_path / "search.keras")
    with pytest.raises(ValueError, match="unsafe"):
        keras.models.load_model(tmp_path / "search.keras")
    with pytest.raises(ValueError, match="unsafe"):
        kdf.SearchModel.from_config(search.get_config())


@pytest.mark.parametrize("damage", ["truncated", "empty", "no config"])
def test_a_damaged_search_file_is_refused(damage, tmp_path):
    path = tmp_path / "search.keras"
    kdf.SearchModel(small_network(), kdf.MACs(0.6)).save(path)
    content = path.read_bytes()
    if damage == "no config":
        path.unlink()
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("metadata.json", "{}")
    else:
        size = len(content) // 2 if damage == "truncated" else 0
        path.write_bytes(content[:size])
    before = path.read_bytes()
    with pytest.raises((ValueError, KeyError, zipfile.BadZipFile)):
        keras.models.load_model(path)
    assert path.read_bytes() == before


def test_the_main_path_needs_no_network(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("something opens a socket")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    model, (x, y) = small_network(), separable_data()
    print(kdf.inspect(model), kdf.count(model))
    search = compiled(kdf.SearchModel(model, kdf.MACs(0.6)))
    search.fit(x, y, batch_size=32, verbose=0)
    search.save(tmp_path / "search.keras")
    plan = keras.models.load_model(tmp_path / "search.keras").plan()
    plan.save(tmp_path / "plan.json")
    plan = kdf.CompressionPlan.load(tmp_path / "plan.json")
    small = kdf.compress(model, plan, calibration=x)
    kdf.recalibrate(small, x, steps=2)
    small.save(tmp_path / "small.keras")
    if keras.config.backend() == "tensorflow":
        kdf.export.saved_model(small, tmp_path / "saved")
        kdf.export.litert(small, tmp_path / "small.tflite")
    again = keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(again(x[:4])),
        keras.ops.convert_to_numpy(small(x[:4])),
        atol=1e-6,
    )

import html
import math
import os
import re

import browser
import keras
import numpy as np
import pytest
from keras import layers

import keras_df as kdf
from keras_df.export import Timing
from keras_df.report import Outcome
from keras_df.report import layer_changes

NASTY = "<b>&\"'<i>"


@pytest.fixture
def plan(residual_model):
    return kdf.baselines.uniform_rank(residual_model, kdf.MACs(0.5))


@pytest.fixture
def outcome():
    steps = range(1, 41)
    return Outcome(
        accuracy={"original": 0.9, "recalibrated": 0.7, "fine-tuned": 0.885},
        latency={
            "original": Timing("a.tflite", 2.0, 1.9, 2.2),
            "compressed": Timing("b.tflite", 1.25, 1.2, 1.4),
        },
        size={"original": 1_000_000, "compressed": 400_000},
        history={
            "step": list(steps),
            "loss": [3 / step for step in steps],
            "macs": [1 - step / 80 for step in steps],
            "masks": [1 - step / 100 for step in steps],
            "masks_settled": [step / 40 for step in steps],
            "ranks": [0.5 for _ in steps],
            "accuracy": [0.8 for _ in steps],
        },
    )


@pytest.fixture
def page(residual_model, plan, outcome, tmp_path):
    path = tmp_path / "report.html"
    kdf.report.html(residual_model, plan, path, outcome)
    return path


def text_of(fragment):
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", fragment)).split())


def tiles(content):
    found = re.findall(r"<dt>(.*?)</dt>\s*<dd>(.*?)</dd>", content, re.DOTALL)
    return {label: text_of(value) for label, value in found}


def table(content):
    """Dict from the names of the rows of layers to lists of their cells."""
    body = content[content.index('<table class="layers">') :]
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    return {
        text_of(re.search(r"<th[^>]*>([^<]*)", row)[1]): [
            text_of(cell) for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)
        ]
        for row in rows[1:]
    }


def test_the_headline_is_that_of_the_plan(page, plan):
    found = tiles(page.read_text(encoding="utf-8"))
    before, after = plan.costs["macs"]
    assert f"{before / after:.2f}× fewer" in found["MACs"]
    assert f"{after / 1e3:.3g} k" in found["MACs"]
    assert f"from {before / 1e3:.3g} k" in found["MACs"]
    assert found["File size"] == "400 kB 2.50× smaller from 1 MB"
    assert found["Latency"] == "1.25 ms 1.60× faster from 2 ms"
    assert found["Accuracy"] == "88.50% −1.50 points from 90.00%"


def test_the_table_is_that_of_the_compressed_model(page, plan, residual_model):
    found = table(page.read_text(encoding="utf-8"))
    assert set(plan.layers) < set(found)
    small = kdf.count(kdf.compress(residual_model, plan))
    for path, layer in plan.layers.items():
        channels, rank, before, after, share, *_ = found[path]
        assert channels == f"{len(layer.kept)} of {layer.channels}"
        if layer.rank is None:
            assert rank == "dense"
        else:
            assert rank == f"{layer.rank} of {layer.max_rank}"
        pair = (path, f"{path}_lowrank_in", f"{path}_lowrank_out")
        macs = sum(x.macs for x in small.layers if x.name in pair)
        assert after == f"{macs:,}"
        assert share == f"{macs / int(before.replace(',', '')):.1%}"
    total = found["total"]
    assert total[2:4] == [f"{x:,}" for x in plan.costs["macs"]]
    assert total[5:7] == [f"{x:,}" for x in plan.costs["params"]]


def test_curves_of_the_search(page):
    content = page.read_text(encoding="utf-8")
    labels = re.findall(r'aria-label="(.*?)"', content)
    assert any("macs from 99% to 50%" in label for label in labels)
    assert any("far from 3 to 0.075" in label for label in labels)
    assert any("near 0 or 1 from 2% to 100%" in label for label in labels)
    assert any("mean mask from 99% to 60%" in label for label in labels)
    assert any("soft rank" in label for label in labels)
    assert "step 1<" in content and "step 40<" in content


def test_epochs_of_a_history_are_curves(residual_model, plan, tmp_path):
    path = tmp_path / "report.html"
    history = {"loss": [2.0, 1.0], "val_loss": [2.0, 1.5], "lr": [1]}
    kdf.report.html(residual_model, plan, path, Outcome(history=history))
    content = path.read_text(encoding="utf-8")
    assert "epoch 2<" in content and "loss from 2 to 1" in content


def test_only_what_was_measured_is_shown(residual_model, plan, tmp_path):
    path = tmp_path / "report.html"
    kdf.report.html(residual_model, plan, path)
    content = path.read_text(encoding="utf-8")
    assert set(tiles(content)) == {"MACs", "FLOPs", "Parameters"}
    assert "The search" not in content and "What was measured" not in content


def test_every_metric_is_a_curve(residual_model, plan, tmp_path):
    path = tmp_path / "report.html"
    history = {
        "sparse_categorical_accuracy": [0.25, 0.5],
        "val_sparse_categorical_accuracy": [0.25, 0.4],
        "mean_absolute_error": [3.5, 2.0],
    }
    kdf.report.html(residual_model, plan, path, Outcome(history=history))
    content = path.read_text(encoding="utf-8")
    assert "<figcaption>Sparse categorical accuracy<" in content
    assert "categorical_accuracy from 25% to 50%" in content
    assert "validation from 25% to 40%" in content
    assert "mean_absolute_error from 3.5 to 2" in content


def test_the_mark_says_which_resource_it_is_of(residual_model, tmp_path):
    path = tmp_path / "report.html"
    budgets = [kdf.FLOPs(0.8), kdf.Params(0.5)]
    plan = kdf.baselines.random(residual_model, budgets)
    history = {"flops": [1.0, 0.8], "params": [1.0, 0.5]}
    kdf.report.html(residual_model, plan, path, Outcome(history=history))
    before, after = plan.costs["flops"]
    content = path.read_text(encoding="utf-8")
    assert f"plan, flops {after / before:.1%}" in content


def test_a_cost_that_the_plan_lacks_is_not_marked(
    residual_model, plan, tmp_path
):
    """As `latency` in a plan that joins one for MACs and one for time."""
    path = tmp_path / "report.html"
    history = {"latency": [1.0, 0.75]}
    kdf.report.html(residual_model, plan, path, Outcome(history=history))
    content = path.read_text(encoding="utf-8")
    assert "latency from 100% to 75%" in content
    assert 'class="line mark"' not in content


def test_a_single_epoch_is_no_curve(residual_model, plan, tmp_path):
    path = tmp_path / "report.html"
    outcome = Outcome(history={"loss": [1.0]})
    kdf.report.html(residual_model, plan, path, outcome)
    assert "The search" not in path.read_text(encoding="utf-8")


def test_another_metric_is_not_in_percent(residual_model, plan, tmp_path):
    path = tmp_path / "report.html"
    outcome = Outcome(accuracy={"a": 2.0, "b": 2.5}, metric="mean_abs_error")
    kdf.report.html(residual_model, plan, path, outcome)
    found = tiles(path.read_text(encoding="utf-8"))
    assert found["Mean abs error"] == "2.5 +0.5 from 2"


def test_what_got_slower_is_said(residual_model, plan, tmp_path):
    path = tmp_path / "report.html"
    latency = {"a": Timing("a", 1.0, 1, 1), "b": Timing("b", 1.5, 1, 2)}
    kdf.report.html(residual_model, plan, path, Outcome(latency=latency))
    found = tiles(path.read_text(encoding="utf-8"))
    assert found["Latency"] == "1.5 ms 1.50× slower from 1 ms"


def test_what_diverged_is_shown(residual_model, plan, tmp_path):
    path = tmp_path / "report.html"
    outcome = Outcome(
        accuracy={"a": 0.5, "b": math.nan},
        history={"loss": [1.0, math.nan, math.inf]},
    )
    kdf.report.html(residual_model, plan, path, outcome)
    found = tiles(path.read_text(encoding="utf-8"))
    assert found["Accuracy"].startswith("nan%")


def test_names_are_escaped(tmp_path):
    inputs = keras.Input((4,))
    x = layers.Dense(6, name=NASTY)(inputs)
    model = keras.Model(inputs, layers.Dense(2)(x), name=NASTY)
    plan = kdf.baselines.random(model, kdf.MACs(0.6))
    plan.notes.append(NASTY)
    outcome = Outcome(
        accuracy={NASTY: 1, "b": 2},
        size={NASTY: 1},
        metric=NASTY,
        history={"loss": [1, 2], NASTY: [1, 2]},
    )
    path = tmp_path / "report.html"
    kdf.report.html(model, plan, path, outcome)
    content = path.read_text(encoding="utf-8")
    assert NASTY not in content and "<i>" not in content
    assert content.count(html.escape(NASTY)) >= 5


def test_nothing_outside_the_page_is_referred_to(page):
    content = page.read_text(encoding="utf-8")
    assert not re.search(
        r"https?:|//|src=|href=|@import|url\(|<script", content
    )


def test_a_failure_leaves_the_old_page(page, plan, chain_model):
    before = page.read_bytes()
    with pytest.raises(ValueError, match="another model"):
        kdf.report.html(chain_model, plan, page)
    assert page.read_bytes() == before
    assert os.listdir(page.parent) == [page.name]


def test_other_arguments_are_refused(residual_model, plan, tmp_path):
    path = tmp_path / "report.html"
    with pytest.raises(TypeError, match="CompressionPlan"):
        kdf.report.html(residual_model, path, path)
    with pytest.raises(TypeError, match="Outcome"):
        kdf.report.html(residual_model, plan, path, {"accuracy": {}})


def test_a_browser_reads_the_plan(page, plan, residual_model):
    found = table(browser.dom(page))
    for layer in layer_changes(residual_model, plan):
        if layer.macs[0]:
            assert found[layer.name][2:4] == [f"{x:,}" for x in layer.macs]


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_a_browser_needs_no_sideways_scrolling(page, width):
    found = browser.measure(page, width)
    assert found == {"inner": width, "wide": width, "requests": 0}


@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_draws_the_page(page, width, tmp_path):
    browser.screenshot(page, width, 1600, tmp_path / "page.png")
    image = keras.utils.load_img(tmp_path / "page.png")
    pixels = np.asarray(image).reshape(-1, 3).astype(int)
    assert image.size == (width, 1600)
    # Cards, ink and the blue of bars and curves on the page's grey.
    colors, counts = np.unique(pixels, axis=0, return_counts=True)
    assert len(colors) > 50
    assert counts.max() < 0.95 * len(pixels)
    is_blue = (pixels[:, 2] > 200) & (pixels[:, 0] < 60)
    assert 0.001 < is_blue.mean() < 0.5

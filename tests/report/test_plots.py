import builtins
import os

import pytest

from keras_df import CompressionPlan
from keras_df.plan import LayerPlan
from keras_df.report import plot_plan

SIGNATURES = {"plan.png": b"\x89PNG", "plan": b"\x89PNG", "plan.pdf": b"%PDF"}


@pytest.fixture
def plan():
    layers = {
        "conv": LayerPlan(8, (0, 2), max_rank=8),
        "dense": LayerPlan(4, (0, 1, 2, 3), rank=2, max_rank=4),
    }
    costs = dict.fromkeys(("macs", "flops", "params"), (100, 40))
    return CompressionPlan(layers, costs)


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_ending_names_the_format(plan, name, tmp_path):
    pytest.importorskip("matplotlib")
    plot_plan(plan, tmp_path / name)
    content = (tmp_path / name).read_bytes()
    assert content.startswith(SIGNATURES[name])
    assert os.listdir(tmp_path) == [name]


def test_bars_are_what_a_plan_keeps(plan, tmp_path, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure")
    drawn = []
    save = figure.Figure.savefig

    def record(self, *args, **kwargs):
        drawn.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(figure.Figure, "savefig", record)
    plot_plan(plan, tmp_path / "plan.png")
    (axes,) = drawn[0].axes
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == [0.25, 1.0, 1.0, 0.5]
    assert axes.get_title().startswith("40.0%")


def test_a_failure_leaves_no_file(plan, tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="not supported"):
        plot_plan(plan, tmp_path / "plan.nonsense")
    assert not os.listdir(tmp_path)


def test_without_matplotlib_the_error_says_what_to_install(
    plan, tmp_path, monkeypatch
):
    load = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"keras_df\[examples\]"):
        plot_plan(plan, tmp_path / "plan.png")

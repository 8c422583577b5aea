import math
import re

from keras_df.report.charts import bar_chart
from keras_df.report.charts import column_chart
from keras_df.report.charts import line_chart

show = "{:g}".format


def path_of(chart):
    return re.search(r'class="line s0" d="(.*?)"', chart)[1]


def test_a_curve_spans_the_chart():
    chart = line_chart("t", "step", [1, 2, 3], {"a": [0, 1, 4]}, show)
    assert path_of(chart) == "M0.00 100.00L50.00 75.00L100.00 0.00"


def test_a_ceiling_fixes_the_scale():
    chart = line_chart("t", "step", [1, 3], {"a": [0.5, 0.25]}, show, 1.0)
    assert path_of(chart) == "M0.00 50.00L100.00 75.00"


def test_negative_values_have_room():
    chart = line_chart("t", "step", [0, 1], {"a": [-1, 1]}, show)
    assert path_of(chart) == "M0.00 100.00L100.00 0.00"


def test_a_curve_is_broken_where_values_are_missing():
    curve = [1.0, None, 1.0, math.nan, math.inf, 0.0]
    chart = line_chart("t", "step", range(6), {"a": curve}, show)
    path = path_of(chart)
    assert path.count("M") == 3 and "L" not in path
    assert "nan" not in chart and "inf" not in chart


def test_long_curves_are_thinned_and_keep_their_end():
    x = list(range(10_001))
    chart = line_chart("t", "step", x, {"a": x}, show)
    path = path_of(chart)
    assert path.count("L") <= 600
    assert path.endswith("L100.00 0.00")


def test_a_mark_is_a_line_across():
    chart = line_chart("t", "s", [0, 1], {"a": [1, 0]}, show, 1, (0.4, "goal"))
    assert 'd="M0 60.00H100"' in chart
    assert ">goal<" in chart


def test_columns_are_to_scale():
    chart = column_chart("t", ["a", "b"], [10, 5], [4, 0], show)
    heights = re.findall(r'height="(.*?)"', chart)
    assert heights == ["100.000", "40.000", "50.000", "0.000"]
    assert "<title>a: 10 → 4</title>" in chart


def test_bars_are_to_scale():
    chart = bar_chart("t", [("a", 4, "four", "big"), ("b", 1, "one", "")])
    assert re.findall('--share:(.*?)"', chart) == ["1.000", "0.250"]
    assert "four<small>big</small>" in chart and "one</td>" in chart


def test_labels_are_escaped():
    charts = [
        line_chart("<t>", "<x>", [0, 1], {"<a>": [0, 1]}, show),
        column_chart("<t>", ["<n>"], [1], [1], show),
        bar_chart("<t>", [("<l>", 1, "<v>", "<v>")]),
    ]
    for chart in charts:
        assert not re.search("<(t|x|a|n|l|v)>", chart)
        assert "&lt;t&gt;" in chart

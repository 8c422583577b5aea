"""The table of the accuracy benchmark says what its records say."""

import pathlib

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "examples" / "benchmarks"


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import accuracy_report

    return accuracy_report


@pytest.fixture
def table(report):
    return report.table


def record(seed=0, **changes):
    return {
        "network": "resnet",
        "budget": 0.5,
        "method": "df",
        "seed": seed,
        "search_steps": 600,
        "learning_rate": 0.02,
        "teacher": False,
        "epochs": 1,
        "recalibrated": 0.8,
        "fine_tuned": 0.9,
        **changes,
    }


def test_seeds_are_averaged(table):
    second = record(seed=1, recalibrated=0.82)
    lines = table([record(), second]).splitlines()
    assert lines[2:] == ["| resnet | 50% | df | 81.0 ± 1.4 | 90.0 ± 0.0 | 2 |"]


def test_a_seed_that_was_tuned_by_two_recipes_is_no_second_run(table):
    taught = record(teacher=True, epochs=5, fine_tuned=0.95)
    longer = record(epochs=10, learning_rate=0.05, fine_tuned=0.92)
    lines = table([taught, record(), record(seed=1), longer]).splitlines()
    assert lines[0].split(" | ")[3:-1] == [
        "recalibrated",
        "1 epoch at 0.02",
        "10 epochs at 0.05",
        "5 epochs at 0.02, teacher",
    ]
    cells = "80.0 ± 0.0 | 90.0 ± 0.0 | 92.0 | 95.0 | 2"
    assert lines[2:] == [f"| resnet | 50% | df | {cells} |"]


def test_another_number_of_steps_is_a_row_of_its_own(table):
    other = record(search_steps=300)
    none = record(method="L1", search_steps=0)
    text = table([record(), other, none])
    methods = [line.split(" | ")[2] for line in text.splitlines()[2:]]
    assert methods == ["df", "df, 300 steps", "L1"]


def test_curves_are_drawn_of_what_was_measured_at_several_costs(
    report, tmp_path, monkeypatch
):
    from matplotlib.figure import Figure

    titles = []
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda self, path, **options: titles.append(
            [path, *(axes.get_title() for axes in self.axes)]
        ),
    )
    curve = [record(), record(budget=0.25), record(epochs=5)]
    report.plot([*curve, record(network="single")], str(tmp_path / "plot"))
    path = str(tmp_path / "plot_resnet.png")
    assert titles == [[path, "recalibrated", "1 epoch at 0.02"]]

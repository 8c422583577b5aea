"""What benchmarks have measured already is said, and not measured again."""

import pytest
from benchmarks import records
from examples.test_examples import run


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "results.jsonl"


def test_a_run_that_is_in_the_file_is_not_missing(path, capsys):
    runs = [{"model": name, "repeats": 3, "names": ["x"]} for name in "abc"]
    assert records.missing(path, runs) == runs
    assert capsys.readouterr().out == ""
    records.append(path, runs[1] | {"seconds": 2.0})
    assert records.missing(path, runs) == [runs[0], runs[2]]
    printed = capsys.readouterr().out
    assert printed.startswith(f"1 of 3 runs are in {path} already")
    assert "--out=" in printed


@pytest.mark.parametrize("changes", [{"repeats": 4}, {"names": ["x", "y"]}])
def test_a_run_with_other_settings_is_missing(path, changes):
    run = {"model": "a", "repeats": 3, "names": ["x"]}
    records.append(path, run)
    assert records.missing(path, [run | changes]) == [run | changes]


def test_a_record_that_lacks_a_setting_is_of_no_run(path):
    records.append(path, {"model": "a"})
    run = {"model": "a", "repeats": 3}
    assert records.missing(path, [run]) == [run]


@pytest.mark.slow
@pytest.mark.parametrize(
    "script, flags, other",
    [
        ("applications.py", "--models=MobileNet --nosearch", "--budget=0.6"),
        (
            "benchmarks/search_step.py",
            "--models=ResNet20 --spectra=cached --repeats=1",
            "--repeats=2",
        ),
        (
            "benchmarks/latency.py",
            "--networks=WideResNet20 --notfmot --repeats=1",
            "--latency=0.7",
        ),
    ],
)
def test_other_settings_are_measured_anew(script, flags, other, path, tmp_path):
    flags = [*flags.split(), f"--out={path}"]
    assert "already" not in run(script, tmp_path, *flags)
    first = records.read(path)
    assert "1 of 1 runs are in" in run(script, tmp_path, *flags)
    assert records.read(path) == first
    assert "already" not in run(script, tmp_path, *flags, other)
    assert len(records.read(path)) > len(first)

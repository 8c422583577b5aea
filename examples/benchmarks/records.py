"""Results of benchmarks: a file with one JSON record per line."""

import json
import os


def read(path):
    """All records of a file; none if it does not exist yet."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def holds(found, settings):
    """Tells whether one of the records has these settings.

    Args:
        found: List of records.
        settings: Dict of what a record must contain.
    """
    return any(settings.items() <= record.items() for record in found)


def missing(path, runs):
    """Finds what is still to be measured; says what is not.

    Args:
        path: Path of the file of records.
        runs: List of dicts, the settings of each run.

    Returns:
        List of the settings that no record of the file has.
    """
    found = read(path)
    rest = [run for run in runs if not holds(found, run)]
    if len(rest) < len(runs):
        print(
            f"{len(runs) - len(rest)} of {len(runs)} runs are in {path} "
            "already; --out=OTHER measures anew.",
            flush=True,
        )
    return rest


def append(path, record):
    """Adds a record to a file."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")

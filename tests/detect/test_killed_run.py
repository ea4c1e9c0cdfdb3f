"""`train` killed at any moment and resumed: the same weights, metrics and log, and no other files."""

import json

import pytest
from killed import contents, killed_and_run_again


@pytest.mark.slow
def test_a_run_killed_and_resumed_ends_in_the_same_files_and_no_others(shapes, tmp_path, kills):
    def arguments(folder) -> list:
        flags = {"data": shapes, "out": folder, "epochs": 2, "batch-size": 4, "warmup": 2, "device": "cpu"}
        flags |= {"checkpoint-every": 3, "workers": 1}
        return ["train", "--resume", *(word for flag, value in flags.items() for word in (f"--{flag}", value))]

    whole, *others = killed_and_run_again(arguments, tmp_path, kills)
    for folder in others:
        assert without_place_and_time(contents(folder)) == without_place_and_time(contents(whole)), folder.name


def without_place_and_time(files: dict[str, bytes]) -> dict:
    """The files of a run, less what names its folder and its seconds; its page shows both."""
    config = {key: value for key, value in json.loads(files["config.json"]).items() if key != "out"}
    lines = [json.loads(line) for line in files["log.jsonl"].splitlines()]
    log = [{key: value for key, value in line.items() if not key.endswith("seconds")} for line in lines]
    return {**files, "config.json": config, "log.jsonl": log, "report.html": None}

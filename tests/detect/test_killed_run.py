"""`train` killed at random moments and resumed: the same weights and metrics to the last byte."""

import json

from killed import contents, duration, killed_and_resumed


def test_a_run_killed_and_resumed_ends_in_the_same_files_and_no_others(shapes, tmp_path, kills):
    def arguments(name: str) -> list:
        flags = {"data": shapes, "out": tmp_path / name, "epochs": 3, "batch-size": 8, "warmup": 2, "device": "cpu"}
        return ["train", "--resume", *(word for flag, value in flags.items() for word in (f"--{flag}", value))]

    seconds = duration(arguments("whole"))
    right = without_place_and_time(contents(tmp_path / "whole"))
    for seed in range(kills.rounds):
        folder = tmp_path / f"killed{seed}"
        killed_and_resumed(arguments(folder.name), folder, seconds, seed, kills.a_round)
        assert without_place_and_time(contents(folder)) == right


def without_place_and_time(files: dict[str, bytes]) -> dict:
    """The files of a run, less what names its folder and its seconds."""
    config = {key: value for key, value in json.loads(files["config.json"]).items() if key != "out"}
    lines = [json.loads(line) for line in files["log.jsonl"].splitlines()]
    log = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
    return {**files, "config.json": config, "log.jsonl": log}

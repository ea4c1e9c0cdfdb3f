"""`data shapes` and `data coco` killed at random moments and run again: the same files to the last byte, no others."""

import pytest
from killed import contents, duration, killed_and_resumed

from otalab.data import download

KINDS = {"photo by photo": ["--max-images", 9, "--longest-side", 32], "all of it": []}


@pytest.mark.parametrize("overwrite", [False, True])
def test_shapes_killed_and_drawn_again_are_the_same_files_and_no_others(overwrite, tmp_path, kills):
    def arguments(name: str) -> list:
        out = tmp_path / name / "shapes"
        return ["data", "shapes", "--out", out, "--train", 8, "--val", 4, *["--overwrite"] * overwrite]

    seconds = duration(arguments("whole"))
    for seed in range(kills.rounds):
        folder = tmp_path / f"killed{seed}"
        if overwrite:
            duration([*arguments(folder.name), "--seed", 1])
        killed_and_resumed(arguments(folder.name), folder, seconds, seed, kills.a_round)
        assert contents(folder) == contents(tmp_path / "whole")


@pytest.mark.parametrize("kind", KINDS)
def test_photos_killed_and_fetched_again_are_the_same_files_and_no_others(kind, coco, tmp_path, kills):
    def arguments(name: str) -> list:
        return ["data", "coco", "--out", tmp_path / name / "coco", "--splits", "val", *KINDS[kind]]

    patches = {"COCO_URLS": download.COCO_URLS, "COCO_MD5": download.COCO_MD5}
    coco.pause = 0.01
    seconds = duration(arguments("whole"), patches)
    for seed in range(kills.rounds):
        folder = tmp_path / f"killed{seed}"
        killed_and_resumed(arguments(folder.name), folder, seconds, seed, kills.a_round, patches)
        assert contents(folder) == contents(tmp_path / "whole")

"""`otalab data ...`: sets that are read, and looked at."""

import sys
from pathlib import Path

import pytest
from command_line import otalab
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "data"))
from foreign_files import crowdhuman, mask, person, voc, voc_xml, yolo


def test_show_draws_a_sheet_and_prints_a_table(shapes, tmp_path, capsys):
    assert otalab("data", "show", shapes, "--split", "val", "--images", 3, "--out", tmp_path / "s.png") == 0
    said = capsys.readouterr().out
    assert said.startswith("images      8; width 64 px, height 64 px\n") and "crowding" in said
    assert said.endswith(f"sheet    {tmp_path}/s.png\n")
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.size[0] > 1000


@pytest.mark.parametrize("kind", ["crowdhuman", "voc", "yolo"])
def test_a_folder_of_another_format_is_read_and_the_account_is_given(kind, tmp_path, capsys, refused):
    source = {
        "crowdhuman": lambda: crowdhuman(tmp_path / "s", train={"1": [person(), mask(), person((1, 1, 0, 3))]}),
        "voc": lambda: voc(
            tmp_path / "s",
            {"1": voc_xml(("a", (5, 5, 15, 25), 0), ("a", (20, 0, 35, 15), 1), ("a", (1, 1, 1, 3), 0))},
            train=["1"],
        ),
        "yolo": lambda: yolo(tmp_path / "s", train={"1": "0 .25 .5 .25 .6\n1 .7 .25 .3 .5\n0 .5 .5 0 .1"}),
    }[kind]()
    assert otalab("data", kind, source, "--out", tmp_path / "set") == 0
    said = capsys.readouterr().out
    more = "" if kind == "yolo" else ", 1 of them regions to ignore"
    assert f"train:\n  photos: 1 of 1 used\n  boxes: 2 of 3 used{more}; left out: 1 of zero area\n" in said
    assert otalab("data", "summary", tmp_path / "set") == 0
    assert "images: 1 of 1 used" in capsys.readouterr().out
    assert "exists already" in refused("data", kind, source, "--out", tmp_path / "set")
    assert "no folder" in refused("data", kind, tmp_path / "none", "--out", tmp_path / "other")

import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import fields

import pytest
from command_line import otalab, printing, read, run
from PIL import Image

from otalab.cli.main import parser
from otalab.data import CLASS_NAMES
from otalab.detect import build_detector
from otalab.detect.checkpoint import save_model
from otalab.detect.config import TrainConfig
from otalab.detect.run_folder import MAY_CHANGE

COMMANDS = {
    "demo": ["--out", "--epochs", "--train-images"],
    "verify": [
        *("--problem", "--sizes", "--seed", "--methods", "--eps", "--iterations", "--checkpoint", "--data", "--images"),
        *("--json", "--save", "--picture", "--exact"),
    ],
    "compare-assigners": [
        *("image", "--annotations", "--checkpoint", "--skill", "--assigners", "--objects", "--seed", "--picture"),
        "--json",
    ],
    "train": ["--" + field.name.replace("_", "-") for field in fields(TrainConfig)] + ["--resume"],
    "eval": [
        *("checkpoint", "--data", "--split", "--metrics", "--backend", "--batch-size", "--device", "--json"),
        "--results",
    ],
    "compare": ["RUN", "--out"],
    "study": ["PLAN", "--out", "--cards", "--processes", "--hours", "--report"],
    "recipes": [],
    "predict": ["checkpoint", "images", "--out", "--threshold", "--device"],
    "export": ["checkpoint", "--format", "--out", "--size", "--batch"],
    "bench": ["--rounds", "--json"],
    "data": ["shapes", "coco", "bccd", "crowdhuman", "voc", "yolo", "show", "summary"],
    "data show": ["folder", "--split", "--images", "--seed", "--out"],
    "data bccd": ["--out", "--longest-side"],
    "data crowdhuman": ["folder", "--out", "--longest-side", "--boxes", "--clip"],
    "data voc": ["folder", "--out", "--longest-side", "--one-based", "--seed"],
    "data yolo": ["folder", "--out", "--longest-side", "--names"],
    "data shapes": ["--out", "--train", "--val", "--seed", "--overwrite"],
    "data coco": ["--out", "--splits", "--images", "--categories", "--seed", "--ids", "--longest-side"],
    "data summary": ["folder"],
}


def test_help_lists_every_command_and_its_exit_status():
    said = run("--help")
    assert said.returncode == 0 and said.stderr == ""
    assert all(re.search(rf"^    {command}\s", said.stdout, re.MULTILINE) for command in COMMANDS if " " not in command)
    for meaning in (
        "exit status: 0 done, 1 a check failed, 2 input at fault",
        "3 a fault of otalab",
        "OTALAB_TRACEBACK",
    ):
        assert meaning in " ".join(said.stdout.split())


def known_commands() -> set[str]:
    """All commands that the parser knows, those of `data` included."""
    found = set()

    def walk(parser, prefix):
        for action in parser._actions:
            if isinstance(action.choices, dict):
                for name, inner in action.choices.items():
                    found.add((prefix + " " + name).strip())
                    walk(inner, prefix + " " + name)

    walk(parser(), "")
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_mentions_each_flag(command, capsys):
    assert otalab(*command.split(), "--help") == 0
    said = capsys.readouterr()
    assert said.err == ""
    for flag in COMMANDS[command]:
        assert re.search(rf"(?<![\w-]){flag}(?![\w-])", said.out), flag


def test_no_command_or_flag_is_left_out_of_these_tests():
    assert known_commands() == set(COMMANDS)
    for command, flags in COMMANDS.items():
        words = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", help_of(command)))
        refusals = {"--no-" + flag.removeprefix("--") for flag in flags}  # of flags that say yes or no
        assert words - {"--help"} <= set(flags) | refusals | words_in_texts(command), command


def help_of(command: str) -> str:
    one = parser()
    for name in command.split():
        one = next(a.choices[name] for a in one._actions if isinstance(a.choices, dict))
    return one.format_help()


def test_help_of_resume_names_the_settings_that_may_change():
    said = " ".join(help_of("train").split()).rpartition("--resume ")[2].partition("only ")[2]
    named = set(re.findall(r"\w+", said.partition("may change")[0])) - {"and"}
    assert named == set(MAY_CHANGE) - {"out", "recipe"}  # a recipe is but a way to give the others


def words_in_texts(command: str) -> set[str]:
    """Flags that one flag's help text speaks of are not its own."""
    return {"data coco": {"--longest-side"}, "recipes": {"--recipe"}}.get(command, set())


def test_version_is_the_packages(capsys):
    from otalab import __version__

    assert otalab("--version") == 0
    assert capsys.readouterr().out == f"otalab {__version__}\n"


def test_a_run_trains_is_left_alone_evaluated_and_used(train_flags, shapes, tmp_path, capsys, refused):
    folder = tmp_path / "run"
    assert otalab(*train_flags()) == 0
    said = capsys.readouterr().out
    assert re.search(r"^AP50 +\d\.\d{3}$", said, re.MULTILINE) and f"weights: {folder}/model.safetensors" in said
    trained = read(folder / "metrics.json")

    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert "holds a run already; resume it (--resume)" in refused(*train_flags())
    assert {path: path.read_bytes() for path in folder.iterdir()} == before

    for checkpoint in (folder, folder / "model.safetensors"):
        assert otalab("eval", checkpoint, "--data", shapes, "--json", tmp_path / "m.json", "--device", "cpu") == 0
        assert read(tmp_path / "m.json") == pytest.approx(trained, abs=1e-6)
    assert "category" in capsys.readouterr().out

    (folder / "checkpoint.pt").write_bytes(b"PK\x03\x04 no more")
    assert otalab(*train_flags(), "--resume") == 2
    assert "checkpoint.pt is not a whole checkpoint" in capsys.readouterr().err


def test_evaluation_pads_images_as_training_did_unless_told_otherwise(shapes, tmp_path, monkeypatch, capsys):
    settings = {"backbone": "tiny", "num_classes": len(CLASS_NAMES)}
    ids = list(range(1, len(CLASS_NAMES) + 1))
    save_model(tmp_path / "model.safetensors", build_detector(**settings), settings, list(CLASS_NAMES), ids, 3)
    sizes = []
    monkeypatch.setattr("otalab.detect.evaluate.detect", lambda model, data, size, progress: sizes.append(size) or [])
    assert otalab("eval", tmp_path, "--data", shapes, "--device", "cpu") == 0
    assert otalab("eval", tmp_path, "--data", shapes, "--device", "cpu", "--batch-size", "5") == 0
    assert sizes == [3, 5]


def test_a_box_of_no_area_is_dropped_and_counted_and_training_goes_on(edit_annotations, train_flags, tmp_path, caplog):
    def flatten(content):
        content["annotations"][0]["bbox"][2] = 0

    assert otalab(*train_flags(data=edit_annotations(flatten))) == 0
    assert "1 boxes of zero area and 0 outside their image dropped" in caplog.text
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_predict_ends_with_status_2_when_one_image_of_several_is_at_fault(detector_folder, shapes, tmp_path, capsys):
    good, bad = shapes / "val" / "images" / "000001.png", tmp_path / "two\nlines.png"
    assert otalab("predict", detector_folder, bad, good, "--out", tmp_path / "out") == 2
    said, err = capsys.readouterr()
    assert said.startswith(f"{good}: ") and err.startswith("otalab: error: cannot read image ") and err.count("\n") == 1
    assert sorted(os.listdir(tmp_path / "out")) == ["000001.json", "000001.png"]


def test_predict_writes_boxes_and_a_picture(detector_folder, shapes, tmp_path, capsys):
    image = shapes / "val" / "images" / "000001.png"
    assert otalab("predict", detector_folder, image, "--out", tmp_path / "out", "--threshold", "0.6") == 0
    assert capsys.readouterr().out.startswith(f"{image}: ")
    rows = json.loads((tmp_path / "out" / "000001.json").read_text())
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=True) and scores[-1] >= 0.6
    assert all(0 <= row["box"][0] < row["box"][2] <= 64 and 0 <= row["box"][1] < row["box"][3] <= 64 for row in rows)
    assert {row["label"] for row in rows} <= {"circle", "square", "triangle", "star", "ring", "cross"}
    with Image.open(tmp_path / "out" / "000001.png") as picture:
        assert picture.format == "PNG" and min(picture.size) >= 64


def test_predict_takes_a_folder_of_frames_in_order_and_keeps_their_names(detector_folder, shapes, tmp_path, capsys):
    photos, frames = shapes / "val" / "images", tmp_path / "frames"
    frames.mkdir()
    for number in (10, 9, 1):
        shutil.copy(photos / "000001.png", frames / f"frame{number}.png")
    (frames / "notes.txt").write_text("not an image")
    assert otalab("predict", detector_folder, frames, photos / "*2.png", "--out", tmp_path / "out") == 0
    lines = capsys.readouterr().out.splitlines()
    expected = [*(frames / f"frame{number}.png" for number in (1, 9, 10)), photos / "000002.png"]
    assert [line.split(": ")[0] for line in lines] == [str(path) for path in expected]
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {"frame1", "frame9", "frame10", "000002"}


def test_predict_finds_nothing_of_score_one(detector_folder, shapes, tmp_path, capsys):
    image = shapes / "val" / "images" / "000001.png"
    assert otalab("predict", detector_folder, image, "--out", tmp_path, "--threshold", "1") == 0
    assert ": nothing -> " in capsys.readouterr().out
    assert json.loads((tmp_path / "000001.json").read_text()) == []


def test_data_shapes_makes_a_set_that_summary_counts_and_never_replaces_another(tmp_path, capsys, refused):
    folder = tmp_path / "shapes"
    small = ["data", "shapes", "--out", folder, "--train", 3, "--val", 2]
    assert otalab(*small) == 0
    assert f"3 training and 2 validation images in {folder}" in capsys.readouterr().out
    assert otalab("data", "summary", folder) == 0
    said = capsys.readouterr().out
    assert re.search(r"^train: 3 images, \d+ boxes, 6 classes", said) and "\nval: 2 images" in said
    assert "seed 0, asked 1" in refused(*small, "--seed", 1)
    assert otalab(*small, "--seed", 1, "--overwrite") == 0


def test_summary_of_one_split_says_which_is_missing(own_shapes, capsys, refused):
    shutil.rmtree(own_shapes / "train")
    assert otalab("data", "summary", own_shapes) == 0
    said = capsys.readouterr().out
    assert "train: no train split in" in said and "\nval: 8 images" in said
    shutil.rmtree(own_shapes / "val")
    assert "no train split in" in refused("data", "summary", own_shapes)


def test_bench_prints_ratios_to_the_textbook_way_and_writes_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("otalab.lab.timing.SIZE", (160, 160))
    assert otalab("bench", "--rounds", 1, "--json", tmp_path / "bench.json") == 0
    rows = read(tmp_path / "bench.json")["rows"]
    assert rows[0]["speed_up"] == 1 and len(rows) == 4 and all(row["seconds"] > 0 for row in rows)
    said = capsys.readouterr().out
    assert all(row["way"] in said for row in rows)


def test_a_reader_that_leaves_early_is_no_error():
    command = shlex.join(printing("'l\\n' * 10**6")) + " | head -n 1; exit ${PIPESTATUS[0]}"
    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (said.returncode, said.stdout, said.stderr) == (141, "l\n", "")

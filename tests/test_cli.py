import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields, replace

import pytest
from PIL import Image

from otalab.cli import main, parser
from otalab.detect.config import TrainConfig
from otalab.errors import InputError
from otalab.transport import METHODS

COMMANDS = {
    "demo": ["--out", "--epochs", "--train-images"],
    "verify": ["--eps", "--iterations", "--checkpoint", "--data", "--images", "--json"],
    "train": ["--" + field.name.replace("_", "-") for field in fields(TrainConfig)] + ["--resume"],
    "eval": ["checkpoint", "--data", "--split", "--backend", "--batch-size", "--device", "--json"],
    "predict": ["checkpoint", "images", "--out", "--threshold", "--device"],
    "bench": ["--rounds", "--json"],
    "data": ["shapes", "coco", "summary"],
    "data shapes": ["--out", "--train", "--val", "--seed", "--overwrite"],
    "data coco": ["--out", "--splits", "--max-images"],
    "data summary": ["folder"],
}


def run(*arguments, **options) -> subprocess.CompletedProcess:
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "otalab", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def otalab(*arguments) -> int:
    """The command line in this process; the exit status."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse's way
        return stop.code


def read(path) -> dict:
    """JSON, without literals that JSON does not know."""
    return json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} in {path}"))


@pytest.fixture
def refused(capsys):
    """`refused(arguments)` runs a command that must fail for its input; returns what it says."""

    def check(*arguments) -> str:
        assert otalab(*arguments) == 2
        out, err = capsys.readouterr()
        assert err.startswith("otalab: error: ") and err.count("\n") == 1 and err.endswith("\n"), err
        assert out == ""
        return err

    return check


@pytest.fixture
def train_flags(shapes, tmp_path):
    """Arguments of a training run of a second, with changes."""

    def flags(**changes) -> list:
        values = {"data": shapes, "out": tmp_path / "run", "epochs": 1, "batch-size": 8, "device": "cpu"} | changes
        return ["train", *(word for name, value in values.items() for word in (f"--{name}", value))]

    return flags


def test_help_lists_every_command_and_its_exit_status():
    said = run("--help")
    assert said.returncode == 0 and said.stderr == ""
    assert all(re.search(rf"^    {command} ", said.stdout, re.MULTILINE) for command in COMMANDS if " " not in command)
    assert "exit status: 0 done, 1 a check failed, 2 input at fault" in " ".join(said.stdout.split())


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
        assert words - {"--help"} <= set(flags) | words_in_texts(command), command


def help_of(command: str) -> str:
    one = parser()
    for name in command.split():
        one = next(a.choices[name] for a in one._actions if isinstance(a.choices, dict))
    return one.format_help()


def words_in_texts(command: str) -> set[str]:
    """Flags that one flag's help text speaks of are not its own."""
    return {"--longest-side"} if command == "data coco" else set()


def test_version_is_the_packages(capsys):
    from otalab import __version__

    assert otalab("--version") == 0
    assert capsys.readouterr().out == f"otalab {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "COMMAND"),
        (["trian"], "trian"),
        (["data"], "SET"),
        (["train", "--epochs", "many"], "--epochs"),
        (["train", "--backbone", "resnet51"], "resnet51"),
        (["train", "--no-such-flag"], "--no-such-flag"),
        (["train", "--epochs", "0"], "epochs is 0"),
        (["train", "--lr", "nan"], "lr is nan"),
        (["train", "--device", "abacus"], "device 'abacus' is not here"),
        (["eval", "x"], "--data"),
        (["eval", "x", "--data", "x", "--batch-size", "0"], "0 is less than 1"),
        (["bench", "--rounds", "0"], "0 is less than 1"),
        (["verify", "--images", "-1"], "-1 is less than 1"),
        (["verify", "--eps", "0"], "eps must be positive"),
        (["verify", "--eps", "nan"], "eps must be positive"),
        (["verify", "--iterations", "0"], "max_iter must be at least 1"),
        (["data", "shapes", "--train", "0"], "0 is less than 1"),
        (["data", "shapes", "--seed", "-1", "--out", "x/y"], "seed"),
    ],
)
def test_a_wrong_flag_is_told_in_one_line(arguments, says, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in refused(*arguments)
    assert os.listdir(tmp_path) == []


def test_a_process_ends_with_status_2_and_one_line_and_no_traceback(tmp_path):
    said = run("train", "--data", tmp_path / "nothing", "--out", tmp_path / "run")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == f"otalab: error: no folder {tmp_path / 'nothing'}\n"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("command", ["train", "eval", "data summary", "verify"])
def test_a_folder_that_is_not_there_is_told(command, tmp_path, detector_folder, refused):
    nowhere = tmp_path / "nowhere"
    arguments = {
        "train": ["train", "--data", nowhere, "--out", tmp_path / "run"],
        "eval": ["eval", detector_folder, "--data", nowhere],
        "data summary": ["data", "summary", nowhere],
        "verify": ["verify", "--checkpoint", detector_folder, "--data", nowhere],
    }[command]
    assert f"no folder {nowhere}" in refused(*arguments)
    assert os.listdir(tmp_path) == []


def test_annotations_that_are_not_json_are_told(own_shapes, train_flags, tmp_path, refused):
    path = own_shapes / "train" / "instances.json"
    path.write_text(path.read_text()[:-100])
    assert f"{path} is not JSON: " in refused(*train_flags(data=own_shapes))
    assert not (tmp_path / "run").exists()


def test_an_image_that_is_not_there_is_told(own_shapes, train_flags, tmp_path, refused):
    (own_shapes / "train" / "images" / "000002.png").unlink()
    assert "1 of 16 images are missing" in (said := refused(*train_flags(data=own_shapes))) and "000002.png" in said
    assert not (tmp_path / "run").exists()


def test_a_photo_cut_short_is_told(own_shapes, edit_annotations, train_flags, tmp_path, refused):
    def as_jpeg(content):
        content["images"][0]["file_name"] = "photo.jpg"

    images = own_shapes / "train" / "images"
    Image.open(images / "000000.png").save(images / "photo.jpg")
    (images / "photo.jpg").write_bytes((images / "photo.jpg").read_bytes()[:-500])
    assert f"cannot read image {images / 'photo.jpg'}: " in refused(*train_flags(data=edit_annotations(as_jpeg)))
    assert not (tmp_path / "run").exists()


def test_a_category_that_is_not_there_is_told(train_flags, tmp_path, refused):
    assert "no category 'sqare'; did you mean square" in refused(*train_flags(), "--categories", "circle", "sqare")
    assert not (tmp_path / "run").exists()


def test_an_assigner_that_is_not_there_is_told(train_flags, tmp_path, refused):
    assert "assigner 'otta' is none of ota, " in refused(*train_flags(assigner="otta"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["file", "under a file"])
def test_an_out_that_cannot_be_written_is_told(kind, train_flags, tmp_path, refused):
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / ("run" * (kind == "under a file"))
    assert f"cannot write {out}/config.json: " in refused(*train_flags(out=out))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_disk_that_is_full_is_told_and_nothing_is_half_written(train_flags, tmp_path, full_disk, refused):
    """The settings fit, the log fits, the checkpoint does not."""
    with full_disk(room=100_000):
        assert otalab(*train_flags()) == 2
    assert sorted(os.listdir(tmp_path / "run")) == ["config.json", "log.jsonl"]


def test_a_log_that_cannot_grow_is_told_in_one_line(train_flags, tmp_path, capsys, full_disk):
    with full_disk(room=1100):  # the settings fit, the log of many steps does not
        assert otalab(*train_flags(epochs=9, **{"batch-size": 1})) == 2
    assert re.search(r"^otalab: error: .*File too large", capsys.readouterr().err, re.MULTILINE)


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
    assert "checkpoint.pt is not a whole checkpoint" in refused(*train_flags(), "--resume")


def test_a_box_of_no_area_is_dropped_and_counted_and_training_goes_on(edit_annotations, train_flags, tmp_path):
    def flatten(content):
        content["annotations"][0]["bbox"][2] = 0

    said = run(*train_flags(data=edit_annotations(flatten)), env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert said.returncode == 0 and (tmp_path / "run" / "model.safetensors").is_file()
    assert "1 boxes of zero area and 0 outside their image dropped" in said.stderr and "Traceback" not in said.stderr


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


def test_predict_finds_nothing_above_one(detector_folder, shapes, tmp_path, capsys):
    image = shapes / "val" / "images" / "000001.png"
    assert otalab("predict", detector_folder, image, "--out", tmp_path, "--threshold", "1.01") == 0
    assert ": nothing -> " in capsys.readouterr().out
    assert json.loads((tmp_path / "000001.json").read_text()) == []


def test_predict_tells_of_an_image_that_is_not_there(detector_folder, tmp_path, refused):
    missing = tmp_path / "missing.png"
    assert f"cannot read image {missing}" in refused("predict", detector_folder, missing, "--out", tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_predict_overwrites_no_image_and_no_result_of_its_own(detector_folder, own_shapes, refused):
    photos = own_shapes / "val" / "images"
    before = (photos / "000001.png").read_bytes()
    assert "would be overwritten" in refused("predict", detector_folder, photos / "000001.png", "--out", photos)
    assert (photos / "000001.png").read_bytes() == before
    twice = [photos / "000001.png", own_shapes / "train" / "images" / "000001.png"]
    assert "would be overwritten" in refused("predict", detector_folder, *twice, "--out", own_shapes / "out")
    assert not (own_shapes / "out").exists()


@pytest.mark.parametrize("command", ["eval", "predict", "verify"])
def test_a_checkpoint_that_is_damaged_is_told(command, detector_folder, shapes, tmp_path, refused):
    broken = shutil.copy(detector_folder / "model.safetensors", tmp_path)
    with open(broken, "r+b") as file:
        file.truncate(10_000)
    arguments = {
        "eval": ["eval", broken, "--data", shapes],
        "predict": ["predict", broken, shapes / "val" / "images" / "000001.png", "--out", tmp_path / "out"],
        "verify": ["verify", "--checkpoint", broken, "--data", shapes],
    }[command]
    assert f"{broken} is not a whole otalab checkpoint" in refused(*arguments)
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_verify_prints_tables_and_checks_and_writes_json(detector_folder, shapes, tmp_path, capsys):
    path = tmp_path / "verify.json"
    extra = ["--checkpoint", detector_folder, "--data", shapes, "--images", 1]
    assert otalab("verify", "--json", path, *extra) == 0
    said, err = capsys.readouterr()
    assert err == ""
    problems = read(path)["problems"]
    assert len(problems) == 4 and problems[3]["title"].startswith("image 1, detector:")
    for problem in problems:
        assert problem["title"] in said
        for method in ("linprog", "emd", "assignment", "sinkhorn", "pot-sinkhorn"):
            assert any(row["method"].split()[0] == method for row in problem["comparison"]["rows"])
            assert len(re.findall(rf"^{method} ", said, re.MULTILINE)) == 4
        assert all(check["figure"] <= check["allowed"] for check in problem["checks"])
    total = sum(len(problem["checks"]) for problem in problems)
    assert said.count("\nok    ") == total and said.endswith(f"{total} of {total} checks passed\n")


def test_verify_ends_with_status_1_when_a_check_fails(monkeypatch, capsys, tmp_path):
    emd = METHODS["emd"]

    def lazy(problem):
        solution = emd(problem)
        return replace(solution, plan=solution.plan.roll(1, dims=-1))

    monkeypatch.setitem(METHODS, "emd", lazy)
    assert otalab("verify", "--json", tmp_path / "verify.json") == 1
    said = capsys.readouterr().out
    assert "\nFAIL  exact solvers agree" in said and re.search(r"^\d+ of 13 checks passed$", said, re.MULTILINE)
    assert read(tmp_path / "verify.json")["problems"]


def test_verify_of_a_checkpoint_needs_images(detector_folder, refused):
    assert "--checkpoint needs --data" in refused("verify", "--checkpoint", detector_folder)


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


def test_a_split_that_is_not_there_is_told_by_eval(detector_folder, shapes, refused):
    assert "no test split in" in refused("eval", detector_folder, "--data", shapes, "--split", "test")


def test_bench_prints_ratios_to_the_textbook_way_and_writes_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("otalab.bench.SIZE", (160, 160))
    assert otalab("bench", "--rounds", 1, "--json", tmp_path / "bench.json") == 0
    rows = read(tmp_path / "bench.json")["rows"]
    assert rows[0]["speed_up"] == 1 and len(rows) == 4 and all(row["seconds"] > 0 for row in rows)
    said = capsys.readouterr().out
    assert all(row["way"] in said for row in rows)


def test_an_interruption_ends_with_status_130_and_no_traceback(monkeypatch, capsys):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("otalab.bench.bench_assign", interrupt)
    assert otalab("bench") == 130
    assert capsys.readouterr().err.strip() == "otalab: interrupted"


def test_a_fault_of_the_program_is_not_hidden(monkeypatch):
    def wrong(*args, **kwargs):
        raise ValueError("a bug")

    monkeypatch.setattr("otalab.bench.bench_assign", wrong)
    with pytest.raises(ValueError, match="a bug") as caught:
        main(["bench"])
    assert not isinstance(caught.value, InputError)


def test_a_reader_that_leaves_early_is_no_error():
    talkative = "import otalab.bench as b, otalab.cli as c, sys; b.bench_assign = lambda n: 'line\\n' * 10**6; "
    command = f"{sys.executable} -c \"{talkative} sys.exit(c.main(['bench']))\" | head -n 1; exit ${{PIPESTATUS[0]}}"
    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (said.returncode, said.stdout, said.stderr) == (141, "line\n", "")

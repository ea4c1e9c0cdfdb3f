import os
import re
import shutil

import pytest
from command_line import otalab, run
from PIL import Image


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "COMMAND"),
        (["trian"], "trian"),
        (["data"], "SET"),
        (["train", "--epochs", "many"], "--epochs"),
        (["train", "--backbone", "resnet51"], "resnet51"),
        (["train", "--no-such-flag"], "unrecognized arguments: --no-such-flag; see otalab train --help"),
        (["data", "shapes", "--no-such-flag"], "unrecognized arguments: --no-such-flag; see otalab data shapes --help"),
        (["eval", "x", "--data", "y", "--json", "/"], "argument --json: cannot write /: it exists"),
        (["bench", "--json", f"{__file__}/times.json"], f"{__file__} is not a folder"),
        (["train", "--epochs", "0"], "epochs is 0"),
        (["train", "--lr", "nan"], "lr is nan"),
        (["train", "--device", "abacus"], "device 'abacus' is not here"),
        (["eval", "x"], "--data"),
        (["eval", "x", "--data", "x", "--batch-size", "0"], "0 is less than 1"),
        (["bench", "--rounds", "0"], "0 is less than 1"),
        (["verify", "--images", "-1"], "-1 is less than 1"),
        (["verify", "--eps", "0"], "eps must be positive"),
        (["verify", "--eps", "nan"], "eps must be positive"),
        (["verify", "--data", "photos"], "--data needs --checkpoint"),
        (["verify", "--iterations", "0"], "argument --iterations: 0 is less than 1"),
        (["verify", "--problem", "tyo"], "no problem 'tyo'; it is one of toy, random, image or a file"),
        (["verify", "--problem", "mine.npz"], "cannot read mine.npz: No such file"),
        (["verify", "--problem"], "--problem"),
        (["verify", "--sizes", "20y400"], "'20y400' is neither ROWSxCOLUMNS nor a number of gts"),
        (["verify", "--sizes", "2x3x4"], "'2x3x4' is neither"),
        (["verify", "--sizes", "0x4"], "0 is less than 1"),
        (["verify", "--sizes", "5x4"], "of 5 rows needs so many columns or more"),
        (["verify", "--seed", "-1"], "seed is -1"),
        (["verify", "--methods", "end"], "no method 'end'; there are linprog, emd, "),
        (["verify", "--save", "mine.npz"], "--save writes one problem, but there are 3"),
        (["verify", "--problem", "toy", "--save", "mine.txt"], "its name must end in .npz or .json"),
        (["verify", "--picture", "mine.pdf"], "its name must end in .png or .svg"),
        (["train", "--batch-size", "1000000000"], "batch_size is 1000000000"),
        (["train", "--size", "1000000"], "size is 1000000"),
        (["train", "--epochs", "1" + 18 * "0"], "epochs is 1"),
        (["train", "--workers", "10000"], "workers is 10000"),
        (["train", "--seed", "1" + 30 * "0"], "seed is 1"),
        (["train", "--background", "-1"], "background is -1"),
        (["demo", "--train-images", "1" + 12 * "0"], "is more than 1,000,000"),
        (["demo", "--epochs", "1" + 18 * "0"], "is more than 1,000,000"),
        (["verify", "--sizes", "1000000x1000000"], "has more than 100,000,000 routes"),
        (["verify", "--iterations", "1000000000000"], "is more than 100,000"),
        (["bench", "--rounds", "1" + 12 * "0"], "is more than 1,000"),
        (["eval", "x", "--data", "x", "--batch-size", "1000000000"], "is more than 65,536"),
        (["predict", "x", "y", "--threshold", "nan"], "threshold is nan; a score lies in 0..1"),
        (["data", "shapes", "--train", "1" + 12 * "0"], "is more than 1,000,000"),
        (["data", "shapes", "--train", "0"], "0 is less than 1"),
        (["data", "shapes", "--seed", "-1", "--out", "x/y"], "seed"),
    ],
)
def test_a_wrong_flag_is_told_in_one_line(arguments, says, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in refused(*arguments)
    assert os.listdir(tmp_path) == []


def test_a_process_ends_with_status_2_and_one_line_and_no_traceback(tmp_path):
    said = run("train", "--epochs", 0, "--out", tmp_path / "run")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == "otalab: error: epochs is 0; it must be a number from 1 to 1000000\n"
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


def test_a_photo_cut_short_is_told(own_shapes, edit_annotations, train_flags, tmp_path, capsys):
    def as_jpeg(content):
        content["images"][0]["file_name"] = "photo.jpg"

    images = own_shapes / "train" / "images"
    Image.open(images / "000000.png").save(images / "photo.jpg")
    (images / "photo.jpg").write_bytes((images / "photo.jpg").read_bytes()[:-500])
    assert otalab(*train_flags(data=edit_annotations(as_jpeg))) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"otalab: error: cannot read image {images / 'photo.jpg'}: ") and err.count("\n") == 1
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
    assert sorted(os.listdir(tmp_path / "run")) == ["config.json", "data.txt", "log.jsonl"]


def test_a_log_that_cannot_grow_is_told_in_one_line(train_flags, tmp_path, capsys, full_disk):
    with full_disk(room=1100):  # the settings fit, the log of many steps does not
        assert otalab(*train_flags(epochs=9, **{"batch-size": 1})) == 2
    assert re.search(r"^otalab: error: .*File too large", capsys.readouterr().err, re.MULTILINE)


def test_predict_tells_of_an_image_that_is_not_there(detector_folder, tmp_path, refused):
    missing = tmp_path / "missing.png"
    assert f"cannot read image {missing}" in refused("predict", detector_folder, missing, "--out", tmp_path / "out")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", ["folder", "none*.jpg"])
def test_predict_tells_of_a_path_without_an_image_before_it_loads_the_model(path, tmp_path, refused):
    (tmp_path / "folder").mkdir()
    said = refused("predict", tmp_path / "no checkpoint", tmp_path / path, "--out", tmp_path / "out")
    assert "no image " in said and str(tmp_path / path) in said


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


def test_verify_of_a_checkpoint_needs_images(detector_folder, refused):
    assert "--checkpoint needs --data" in refused("verify", "--checkpoint", detector_folder)


def test_a_method_that_does_not_suit_is_told_if_it_was_asked_for_and_listed_if_not(tmp_path, capsys, refused):
    path = tmp_path / "halves.json"
    path.write_text('{"cost": [[1, 2, 5], [3, null, 3]], "supply": [1.5, 1.5], "demand": [1, 1, 1]}')
    said = refused("verify", "--problem", path, "--methods", "emd", "assignment")
    assert "assignment does not solve" in said and "supply[0] is 1.5" in said
    assert otalab("verify", "--problem", path) == 0
    assert re.search(r"^assignment +no answer: .*supply\[0\] is 1.5", capsys.readouterr().out, re.MULTILINE)


def test_a_problem_that_is_none_is_told(tmp_path, refused):
    path = tmp_path / "mine.json"
    path.write_text('{"cost": [[1, 2, 5]], "supply": [2]}')
    assert f"{path}: it lacks demand" in refused("verify", "--problem", "toy", path)
    path.write_text('{"cost": [[1, 2, 5]], "supply": [2], "demand": [1, 1, 1]}')
    assert f"{path}: supply sums to 2 but demand is 3" in refused("verify", "--problem", path)
    path.write_text('{"cost": [[1, null], [1, null], [1, 1]], "supply": [1, 1, 1], "demand": [1, 2]}')
    assert "no exact method solves" in refused("verify", "--problem", path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "report.html"])
def test_a_demo_replaces_only_a_demo(name, tmp_path, refused):
    (tmp_path / name).write_text("mine")
    assert str(tmp_path) in refused("demo", "--out", tmp_path)
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_text() == "mine"


def test_a_split_that_is_not_there_is_told_by_eval(detector_folder, shapes, refused):
    assert "no test split in" in refused("eval", detector_folder, "--data", shapes, "--split", "test")


def test_an_interruption_ends_with_status_130_and_no_traceback(monkeypatch, capsys):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("otalab.lab.timing.bench_assign", interrupt)
    assert otalab("bench") == 130
    assert capsys.readouterr().err.strip() == "otalab: interrupted"

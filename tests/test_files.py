import json
import os
import stat
from pathlib import Path

import pytest

from otalab.errors import InputError
from otalab.files import folder_beside, require_writable, sweep, to_json, write_json, write_whole


def write(path: Path, text: str) -> None:
    with write_whole(path) as temporary:
        temporary.write_text(text)


def test_a_file_is_written_with_its_folders_and_the_usual_permissions(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    write(path, "new")
    plain = tmp_path / "plain.txt"
    plain.write_text("")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    assert os.listdir(path.parent) == ["file.txt"]


def test_until_the_end_of_the_block_the_old_file_stands(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with write_whole(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path and temporary.suffix == ".txt"
    assert path.read_text() == "half"


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt(), InputError("no")])
def test_an_exception_in_the_middle_leaves_the_old_file_and_no_other(error, tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(error)), write_whole(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


def test_a_full_disk_is_an_input_error_and_leaves_the_old_file(tmp_path, full_disk):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with full_disk(), pytest.raises(InputError, match=rf"^cannot write {path}: File too large$"):
        write(path, "x" * 10_000)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


def test_data_that_cannot_be_brought_to_the_disk_replaces_nothing(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(InputError, match="No space left on device"):
        write(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


def test_a_folder_that_is_a_file_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*/file/inner/file.txt: "):
        write(tmp_path / "file" / "inner" / "file.txt", "new")


@pytest.mark.parametrize("there", ["file/inner/new.txt", "folder", "locked/new.txt"])
def test_what_cannot_be_written_is_told_beforehand(there, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: path.name != "locked")  # root may write everywhere
    stat = os.stat

    def look(path, **options):
        if str(path).endswith("locked/new.txt"):
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr("os.stat", look)  # and look everywhere
    require_writable(tmp_path / "folder" / "to" / "make" / "new.txt")
    with pytest.raises(InputError, match=f"cannot write {tmp_path / there}: "):
        require_writable(tmp_path / there)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "locked"] and not os.listdir(tmp_path / "folder")


def test_a_folder_or_a_device_is_never_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "folder").mkdir()
    for path in (pipe, tmp_path / "folder", tmp_path):
        with pytest.raises(InputError, match="not a regular file"):
            write(path, "new")
    assert stat.S_ISFIFO(pipe.stat().st_mode) and sorted(os.listdir(tmp_path)) == ["folder", "pipe"]


def test_json_has_null_where_a_number_is_not_finite():
    def strict(literal):
        raise AssertionError(f"{literal} is no JSON")

    values = {"a": float("nan"), "b": [1.5, float("inf"), {"c": -float("inf")}], "d": ("x", None, True, 7)}
    read = json.loads(to_json(values), parse_constant=strict)
    assert read == {"a": None, "b": [1.5, None, {"c": None}], "d": ["x", None, True, 7]}


def test_json_is_written_whole(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"AP": 0.5})
    with pytest.raises(TypeError):
        write_json(path, {"AP": object()})
    assert json.loads(path.read_text()) == {"AP": 0.5} and path.read_text().endswith("}\n")
    assert os.listdir(tmp_path) == ["metrics.json"]


def test_what_killed_processes_left_is_swept_and_what_is_being_written_stays(tmp_path):
    (tmp_path / ".a.txt.otalab-12345678.txt").touch()
    (tmp_path / ".b[1].otalab-12345678").mkdir()
    (tmp_path / ".b[1].otalab-12345678" / "c").touch()
    kept = {".a.txt", ".bashrc", "a.otalab-1"}
    for name in kept:
        (tmp_path / name).touch()
    with write_whole(tmp_path / "d.txt") as file, folder_beside(tmp_path / "e") as folder:
        sweep(tmp_path, "b[1]")
        assert set(os.listdir(tmp_path)) == kept | {".a.txt.otalab-12345678.txt", file.name, folder.name}
        sweep(tmp_path)
        assert set(os.listdir(tmp_path)) == kept | {file.name, folder.name}
    assert set(os.listdir(tmp_path)) == kept | {"d.txt"}
    sweep(tmp_path / "nowhere")


def test_a_folder_is_made_after_what_a_killed_process_left_of_it_was_removed(tmp_path):
    (tmp_path / ".e.otalab-12345678").mkdir()
    with folder_beside(tmp_path / "e") as folder:
        assert os.listdir(tmp_path) == [folder.name]
        (folder / "whole").mkdir()
        (folder / "whole").rename(tmp_path / "e")
    assert os.listdir(tmp_path) == ["e"]

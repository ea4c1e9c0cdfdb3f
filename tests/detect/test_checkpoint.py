import json
import os
import pickle
import resource
import shutil
import zipfile

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from otalab.detect import checkpoint
from otalab.detect.checkpoint import load_model, load_state, save_model, save_state
from otalab.detect.layout import place
from otalab.errors import InputError

from .models import eager_detector, noise

NAMES, IDS = ["cat", "dog", "owl"], [3, 7, 90]
SETTINGS = {"backbone": "tiny", "num_classes": 3, "assigner": "fcos", "image_size": (48, 200)}
STATE = {
    "config": {},
    "steps_done": 1,
    "model": {"w": torch.arange(1000.0)},
    "average": {},
    "optimizer": {},
    "scaler": {},
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A detector's model.safetensors, for reading."""
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    save_model(path, eager_detector(assigner="fcos", image_size=(48, 200)), SETTINGS, NAMES, IDS)
    return path


@pytest.fixture
def copy(saved, tmp_path):
    """The same, for damaging."""
    return shutil.copy(saved, tmp_path / "model.safetensors")


def test_a_saved_detector_comes_back_with_the_same_detections_and_description(saved):
    model = place(eager_detector(assigner="fcos", image_size=(48, 200)), torch.device("cpu"))
    loaded, description = load_model(saved)
    assert not loaded.training and loaded.assigner == model.assigner
    assert description["class_names"] == NAMES and description["category_ids"] == IDS
    images = noise((64, 96), (40, 50))
    for ours, theirs in zip(model(images), loaded(images), strict=True):
        assert len(ours["boxes"]) > 10
        assert all(torch.equal(ours[key], theirs[key]) for key in ("boxes", "labels", "scores"))


def test_a_run_is_loaded_by_its_folder(saved):
    assert load_model(saved.parent)[1] == load_model(saved)[1]


def test_a_detector_knows_how_many_images_it_was_trained_on_at_a_time(saved, tmp_path):
    assert load_model(saved)[1]["batch_size"] == 16
    save_model(tmp_path / "model.safetensors", eager_detector(), SETTINGS, NAMES, IDS, batch_size=3)
    assert load_model(tmp_path)[1]["batch_size"] == 3


def test_a_trained_layout_of_memory_does_not_reach_the_file(saved, tmp_path):
    model = eager_detector(assigner="fcos", image_size=(48, 200)).to(memory_format=torch.channels_last)
    save_model(tmp_path / "model.safetensors", model, SETTINGS, NAMES, IDS)
    assert (tmp_path / "model.safetensors").read_bytes() == saved.read_bytes()


def test_a_detector_that_began_with_pretrained_weights_is_loaded_without_them(tmp_path, monkeypatch):
    settings = {"backbone": "mobilenet_v2", "num_classes": 3, "weights_backbone": "DEFAULT"}
    model = eager_detector("mobilenet_v2", weights_backbone="DEFAULT", load_weights=False)
    save_model(tmp_path / "model.safetensors", model, settings, NAMES, IDS)

    def fetch(*args, **kwargs):
        raise AssertionError("asked for pretrained weights")

    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", fetch)
    loaded, _ = load_model(tmp_path)
    (image,) = noise((64, 64))
    place(model, torch.device("cpu"))  # as the loaded one is, for equal rounding
    assert torch.equal(model([image])[0]["boxes"], loaded([image])[0]["boxes"])


@pytest.mark.parametrize("share", [0, 0.0001, 0.1, 0.5, 0.999])
def test_a_file_cut_short_is_named(share, copy):
    with open(copy, "r+b") as file:
        file.truncate(int(os.path.getsize(copy) * share))
    one_line(copy, load_model, "is not a whole otalab checkpoint")


@pytest.mark.parametrize("content", [b"hello", b"\x00" * 100, b"\xff" * 100, b'{"a": 1}'])
def test_a_file_of_something_else_is_named(content, copy):
    with open(copy, "wb") as file:
        file.write(content)
    one_line(copy, load_model, "is not a whole otalab checkpoint")


def description(**changes) -> str:
    return json.dumps({"settings": SETTINGS, "class_names": NAMES, "category_ids": IDS} | changes)


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (None, "not a whole"),
        ({"format": "pt"}, "not a whole"),
        ({"otalab": "{"}, "not a whole"),
        ({"otalab": "[]"}, "not a whole"),
        ({"otalab": description(settings={"backbone": "resnet51"})}, "resnet51"),
        ({"otalab": description(settings={"colour": "red"})}, "colour"),
        ({"otalab": description(settings=SETTINGS | {"backbone": "resnet18"})}, "not a whole"),
        ({"otalab": description(batch_size="many")}, "not a whole"),
        ({"otalab": description(batch_size=1e400)}, "its batch_size is inf"),
        ({"otalab": description(class_names=NAMES[:2])}, "other numbers of names and ids"),
        ({"otalab": description(class_names=["cat", "dog", 3])}, "its class_names is"),
        ({"otalab": description(category_ids=["3", "7", "90"])}, "its category_ids is"),
        ({"otalab": description(settings=SETTINGS | {"assigner": 3})}, "not a whole"),
        ({"otalab": description(settings=SETTINGS | {"image_size": [[48], 200]})}, "its image_size is"),
        ({"otalab": description(settings=SETTINGS | {"image_size": [10**9, 10**9]})}, "its image_size is"),
        ({"otalab": '{"settings": {"num_classes": 3}}'}, "class_names"),
    ],
)
def test_a_file_of_weights_that_are_not_such_a_detectors_is_named(metadata, says, saved, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(dict(eager_detector().state_dict()), path, metadata=metadata)
    one_line(path, load_model, says)


def test_a_flipped_bit_anywhere_is_told_though_the_weights_it_makes_are_numbers(saved, tmp_path):
    whole = saved.read_bytes()
    path = tmp_path / "model.safetensors"
    for at in range(len(whole) - 1, 8, -len(whole) // 10):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        one_line(path, load_model, "its content is not what was written")


def test_a_detector_saved_before_there_was_a_sum_is_loaded(saved, tmp_path):
    with safe_open(saved, "pt") as file:
        old = json.loads(file.metadata()["otalab"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    del old["sha256"], old["batch_size"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"otalab": json.dumps(old)})
    model, description = load_model(tmp_path)
    assert description == load_model(saved)[1]
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("settings", [{"num_classes": 10**8}, {"channels": 10**7}, {"num_convs": 10**9}])
def test_sizes_that_the_weights_do_not_have_cost_no_memory(settings, tmp_path):
    path = tmp_path / "model.safetensors"
    metadata = {"otalab": description(settings=SETTINGS | settings)}
    save_file(dict(eager_detector().state_dict()), path, metadata=metadata)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    one_line(path, load_model, "logits.bias is|tensor|num_convs is")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_weights_that_are_no_numbers_are_named(tmp_path):
    tensors = dict(eager_detector().state_dict())
    tensors["head.logits.bias"] = torch.full_like(tensors["head.logits.bias"], torch.nan)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"otalab": description()})
    one_line(tmp_path / "model.safetensors", load_model, "head.logits.bias holds numbers that are not finite")


@pytest.mark.parametrize("load", [load_model, load_state])
def test_a_file_that_is_not_there_is_named(load, tmp_path):
    one_line(tmp_path / "nothing.pt", load, "nothing.pt")


def test_a_folder_without_a_detector_is_named(tmp_path):
    one_line(tmp_path, load_model, "no checkpoint at .*model.safetensors")


def test_a_state_comes_back_as_it_was(tmp_path):
    save_state(tmp_path / "checkpoint.pt", STATE)
    loaded = load_state(tmp_path / "checkpoint.pt")
    assert torch.equal(loaded.pop("model")["w"], STATE["model"]["w"])
    assert loaded == {key: value for key, value in STATE.items() if key != "model"}


@pytest.mark.parametrize("share", [0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_state_cut_short_is_named(share, tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_state(path, STATE)
    with open(path, "r+b") as file:
        file.truncate(int(path.stat().st_size * share))
    one_line(path, load_state, "not a whole checkpoint")


def test_a_flipped_bit_in_the_numbers_of_a_state_is_told(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_state(path, STATE)
    whole = bytearray(path.read_bytes())
    at = whole.find(STATE["model"]["w"].numpy().tobytes())
    whole[at + 2000] ^= 1
    path.write_bytes(whole)
    one_line(path, load_state, "not a whole checkpoint .* is damaged")


def test_a_state_that_would_unpack_to_any_size_is_told(tmp_path):
    save_state(tmp_path / "whole.pt", STATE)
    path = tmp_path / "checkpoint.pt"
    with zipfile.ZipFile(tmp_path / "whole.pt") as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    one_line(path, load_state, "its parts are compressed")


@pytest.mark.parametrize("change", [{"steps_done": 0}, {"steps_done": "2"}, {"steps_done": True}, {"config": None}])
def test_a_state_whose_account_of_itself_is_wrong_is_told(change, tmp_path):
    save_state(tmp_path / "checkpoint.pt", STATE | change)
    one_line(tmp_path / "checkpoint.pt", load_state, "is not a checkpoint of a run: its steps_done is")


@pytest.mark.parametrize(
    "content", [b"hello", b"\x80", b"\x80\x02.", b"PK\x05\x06" + bytes(18), bytes(1000), b"\xff\xd8" * 500]
)
def test_a_state_of_something_else_is_named(content, tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    one_line(path, load_state, "not a whole checkpoint")


@pytest.mark.parametrize("other", [[1, 2], {"model": {}}, torch.zeros(3), dict.fromkeys("abcde")])
def test_a_state_of_another_program_is_named(other, tmp_path):
    torch.save(other, tmp_path / "checkpoint.pt")
    one_line(tmp_path / "checkpoint.pt", load_state, "not a checkpoint of a run")


class Exploit:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_code_in_a_file_does_not_run(save, tmp_path):
    path, trace = tmp_path / "checkpoint.pt", tmp_path / "trace"
    save(STATE | {"optimizer": Exploit(str(trace))}, path)
    one_line(path, load_state, "not a whole checkpoint")
    assert not trace.exists()


@pytest.mark.parametrize("kind", ["model.safetensors", "checkpoint.pt"])
def test_a_full_disk_leaves_the_old_file_and_no_other(kind, tmp_path, full_disk):
    path = tmp_path / kind
    path.write_bytes(b"old")
    with full_disk(room=2000), pytest.raises(InputError, match=rf"^cannot write {path}: File too large$"):
        if kind == "checkpoint.pt":
            save_state(path, STATE)
        else:
            save_model(path, eager_detector(), SETTINGS, NAMES, IDS)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == [kind]


@pytest.mark.parametrize("kind", ["model.safetensors", "checkpoint.pt"])
def test_an_interruption_leaves_the_old_file_and_no_other(kind, tmp_path, monkeypatch):
    path = tmp_path / kind
    path.write_bytes(b"old")

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        if kind == "checkpoint.pt":
            save_state(path, STATE)
        else:
            save_model(path, eager_detector(), SETTINGS, NAMES, IDS)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == [kind]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "checkpoint.pt"
    with pytest.raises(InputError, match=f"cannot write {path}"):
        save_state(path, STATE)


def test_a_run_of_text_becomes_its_first_line():
    assert checkpoint.first_line(ValueError("one\ntwo")) == "one"
    assert checkpoint.first_line(ValueError()) == "ValueError"


def one_line(path, load, says: str) -> None:
    """Loading raises InputError, in one line."""
    with pytest.raises(InputError, match=says) as caught:
        load(path)
    assert "\n" not in str(caught.value)

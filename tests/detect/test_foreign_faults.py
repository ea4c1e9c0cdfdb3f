"""What is wrong with weights from elsewhere is told in one line, and none of it runs."""

import os
import pickle

import pytest
import torch

from otalab.detect.foreign import CVPODS, TORCHVISION, load_foreign
from otalab.errors import InputError

from .elsewhere import the_authors, torchvisions


@pytest.mark.parametrize("layout", [TORCHVISION, CVPODS])
def test_tensors_at_fault_are_named_in_one_line(layout, tmp_path):
    state = dict(torchvisions().state_dict() if layout is TORCHVISION else the_authors().state())
    sides, quality = layout.name("head.sides.weight"), layout.name("head.quality.bias")
    del state[quality]
    state |= {"head.extra": torch.zeros(1), sides: torch.zeros(4, 2)}
    path = tmp_path / "odd.pth"
    torch.save(state, path)
    with pytest.raises(InputError) as error:
        load_foreign(path)
    said = str(error.value)
    assert f"no {quality}; unknown head.extra; {sides} is (4, 2), not (4, 256, 3, 3)" in said and str(path) in said
    torch.save({**state, "head.extra": 1}, path)
    with pytest.raises(InputError, match="holds no dict of tensors"):
        load_foreign(path)
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="is no detector that otalab knows"):
        load_foreign(path)


def test_numbers_that_are_not_finite_are_named(tmp_path):
    state = the_authors().state()
    state["head.scales.3.scale"] = torch.tensor([float("nan")])
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(InputError, match=r"head\.scales\.3\.scale holds numbers that are not finite"):
        load_foreign(tmp_path / "nan.pth")


class Malicious:
    """A pickle that makes a folder as soon as it is read."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(zipped, tmp_path, refused, shapes):
    path, made = tmp_path / "trap.pth", tmp_path / "made"
    torch.save({"model": Malicious(made)}, path, _use_new_zipfile_serialization=zipped)
    said = refused("eval", path, "--data", shapes)
    assert "trap.pth is refused, and none of it was run" in said
    path.write_bytes(pickle.dumps(Malicious(made), protocol=2))
    assert "trap.pth is refused, and none of it was run" in refused("eval", path, "--data", shapes)
    assert not made.exists()
    pickle.loads(path.read_bytes())  # elsewhere it does run
    assert made.exists()


def test_a_missing_or_damaged_file_is_told_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"no checkpoint at .*none.pth"):
        load_foreign(tmp_path / "none.pth")
    whole = tmp_path / "whole.pth"
    torch.save({"weight": torch.zeros(1000)}, whole)
    (tmp_path / "cut.pth").write_bytes(whole.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cut\.pth"):
        load_foreign(tmp_path / "cut.pth")

import json
import os

import numpy as np
import pytest
import torch
from detect.models import eager_detector

from otalab.data import CocoDataset
from otalab.errors import InputError
from otalab.lab.cases import case_of, detector_cases, load_problem, random_case, save_problem, simulated_case, toy_case
from otalab.transport import TransportProblem, solve

INF = float("inf")
PROBLEM = {"cost": [[1.0, INF, 2.0], [0.5, -3.0, 0.25]], "supply": [1.5, 1.5], "demand": [1.0, 1.0, 1.0]}


def equal(one: TransportProblem, other: TransportProblem) -> bool:
    return all(torch.equal(getattr(one, key), getattr(other, key)) for key in PROBLEM)


@pytest.fixture
def json_file(tmp_path):
    """`json_file(text or values)` writes a .json file and returns its path."""

    def write(content):
        path = tmp_path / "problem.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.fixture
def npz_file(tmp_path):
    """`npz_file(arrays)` writes a .npz file and returns its path."""

    def write(arrays):
        np.savez(tmp_path / "problem.npz", **arrays)
        return tmp_path / "problem.npz"

    return write


def test_a_name_stands_for_its_case(tmp_path):
    assert equal(case_of("toy").problem, toy_case().problem)
    assert equal(case_of("random", 3).problem, random_case(seed=3).problem)
    image = case_of("image", 3)
    assert equal(image.problem, simulated_case(seed=3).problem) and image.labels is not None
    save_problem(tmp_path / "mine.npz", toy_case().problem)
    own = case_of(str(tmp_path / "mine.npz"))
    assert equal(own.problem, toy_case().problem) and own.labels is None
    assert own.title == f"{tmp_path}/mine.npz: 3 suppliers, 6 demanders"


def test_another_seed_is_another_problem_and_the_same_seed_the_same():
    for make in (random_case, simulated_case):
        assert equal(make(seed=1).problem, make(seed=1).problem)
        assert not torch.equal(make(seed=1).problem.cost, make(seed=2).problem.cost)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 5), (4, 30), (20, 400)])
def test_a_random_problem_has_the_size_asked_for_and_work_for_every_row_but_the_last(shape):
    problem = random_case(*shape).problem
    assert problem.shape == shape and (problem.supply[:-1] >= 1).all() and problem.supply[-1] >= 0
    assert torch.equal(problem.supply, problem.supply.round())
    assert solve(problem, "assignment").certificate.is_optimal()


def test_a_random_problem_that_cannot_be_is_told():
    with pytest.raises(InputError, match="of 5 rows needs so many columns or more, not 4"):
        random_case(5, 4)
    with pytest.raises(InputError, match="100000x100000 has more than 100,000,000 routes"):
        random_case(100_000, 100_000)
    with pytest.raises(InputError, match="1000000 gts on 1706 anchor points have more than"):
        simulated_case(num_gt=10**6)
    with pytest.raises(InputError, match="seed is -1"):
        case_of("random", -1)


@pytest.mark.parametrize("ending", [".npz", ".json"])
def test_a_saved_problem_comes_back_to_the_bit(ending, tmp_path):
    for problem in (TransportProblem(**PROBLEM), random_case(4, 30).problem, simulated_case(num_gt=3).problem):
        save_problem(tmp_path / f"p{ending}", problem)
        assert equal(load_problem(tmp_path / f"p{ending}"), problem)
    assert os.listdir(tmp_path) == [f"p{ending}"]


def test_json_has_null_for_a_forbidden_route(tmp_path):
    save_problem(tmp_path / "p.json", TransportProblem(**PROBLEM))
    content = json.loads((tmp_path / "p.json").read_text(), parse_constant=pytest.fail)
    assert content == PROBLEM | {"cost": [[1.0, None, 2.0], [0.5, -3.0, 0.25]]}


@pytest.mark.parametrize("word", ["null", '"Infinity"', "Infinity", '"inf"'])
def test_a_forbidden_route_in_json_may_be_written_in_any_of_these_words(word, json_file):
    path = json_file(f'{{"cost": [[1, {word}, 2], [0.5, -3, 0.25]], "supply": [1.5, 1.5], "demand": [1, 1, 1]}}')
    assert equal(load_problem(path), TransportProblem(**PROBLEM))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cost": None}, "cost has the shape ()"),
        ({"cost": [1.0, 2.0]}, "cost has the shape (2,)"),
        ({"cost": [[[1.0]]]}, "cost has the shape (1, 1, 1)"),
        ({"cost": [], "supply": [], "demand": []}, "cost has the shape (0,)"),
        ({"cost": [[1.0, 2.0, 3.0], [1.0, 2.0]]}, "cost "),
        ({"cost": [["a", 1.0, 1.0], [1.0, 1.0, 1.0]]}, "cost does not hold rows of numbers"),
        ({"cost": [[{}, 1.0, 1.0], [1.0, 1.0, 1.0]]}, "cost does not hold rows of numbers"),
        ({"supply": [1.0, 1.0, 1.0]}, "supply must be (2,) for a cost (2, 3), not (3,)"),
        ({"supply": [None, 3.0]}, "supply[0] is nan"),
        ({"supply": [10**400, 3.0]}, "supply does not hold rows of numbers: int too large"),
        ({"supply": "many"}, "supply does not hold rows of numbers"),
        ({"supply": [4.0, -1.0]}, "supply[1] is -1"),
        ({"demand": [2.0, 1.0, 1.0]}, "supply sums to 3 but demand is 4"),
        ({"cost": [[INF] * 3, [1.0] * 3]}, "row 0 offers 1.5, but all its routes are forbidden"),
    ],
)
def test_json_that_holds_no_problem_is_told_with_its_path(change, says, json_file):
    path = json_file(PROBLEM | change)
    with pytest.raises(InputError) as caught:
        load_problem(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: ") and says in said and "\n" not in said


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not a whole .json file"),
        ("", "is not a whole .json file"),
        ("[1, 2]", "holds no object with cost, supply, demand"),
        ({"cost": [[1.0]]}, "lacks supply and demand; a problem has cost, supply, demand"),
        ("[" * 100_000, "is not a whole .json file"),
    ],
    ids=["cut off", "empty", "a list", "a key is missing", "nested without end"],
)
def test_json_of_another_kind_is_told_with_its_path(content, says, json_file):
    path = json_file(content)
    with pytest.raises(InputError) as caught:
        load_problem(path)
    assert str(path) in str(caught.value) and says in str(caught.value)


def test_bytes_that_are_no_text_are_told(tmp_path):
    (tmp_path / "p.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"is not a whole \.json file"):
        load_problem(tmp_path / "p.json")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"supply": np.array([object(), 1.0])}, "is not a whole .npz file of numbers"),
        ({"supply": np.array(["a", "b"])}, "supply does not hold rows of numbers"),
        ({"cost": np.ones((2, 3), dtype=complex)}, "cost does not hold rows of numbers: it is complex"),
        ({"demand": np.ones(3, dtype="m8[s]")}, "demand does not hold rows of numbers: it is timedelta64[s]"),
        ({"cost": np.ones((2, 3), dtype="M8[D]")}, "cost does not hold rows of numbers: it is datetime64[D]"),
        ({"cost": np.ones((0, 3))}, "cost has the shape (0, 3)"),
        ({"cost": np.full((2, 3), np.nan)}, "cost[0, 0] is nan"),
    ],
)
def test_arrays_that_hold_no_problem_are_told_with_their_path(change, says, npz_file):
    path = npz_file(PROBLEM | change)
    with pytest.raises(InputError) as caught:
        load_problem(path)
    assert str(path) in str(caught.value) and says in str(caught.value)


def test_a_npz_file_that_lacks_keys_or_is_none_is_told(npz_file, tmp_path):
    with pytest.raises(InputError, match="lacks demand; a problem has"):
        load_problem(npz_file({key: PROBLEM[key] for key in ("cost", "supply")}))
    with open(tmp_path / "one.npz", "wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(InputError, match=r"one\.npz: it holds one array without a name"):
        load_problem(tmp_path / "one.npz")
    (tmp_path / "empty.npz").touch()
    with pytest.raises(InputError, match=r"empty\.npz is not a whole \.npz file"):
        load_problem(tmp_path / "empty.npz")


def test_the_memory_order_and_the_byte_order_of_a_file_are_no_part_of_its_problem(npz_file):
    path = npz_file({key: np.asfortranarray(np.array(value, dtype=">f8")) for key, value in PROBLEM.items()})
    problem = load_problem(path)
    assert equal(problem, TransportProblem(**PROBLEM)) and problem.cost.is_contiguous()


def test_a_npz_file_that_would_unpack_to_any_size_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("otalab.lab.cases.MOST_BYTES", 10_000)
    np.savez_compressed(tmp_path / "p.npz", **PROBLEM, more=np.zeros(10_000))
    with pytest.raises(InputError, match=r"p\.npz: it unpacks to more than 10,000 bytes"):
        load_problem(tmp_path / "p.npz")


def test_json_with_a_text_of_any_length_is_told_in_a_short_line(json_file):
    path = json_file(PROBLEM | {"supply": ["x" * 10**6, 1.0]})
    with pytest.raises(InputError, match="supply does not hold rows of numbers") as caught:
        load_problem(path)
    assert len(str(caught.value)) < 1000


def test_a_npz_file_that_is_damaged_anywhere_is_told_or_still_right(npz_file):
    path = npz_file(PROBLEM)
    whole = path.read_bytes()
    told = 0
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            assert equal(load_problem(path), TransportProblem(**PROBLEM))
        except InputError as error:
            assert str(path) in str(error)
            told += 1
    assert told > 20
    path.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="is not a whole"):
        load_problem(path)


def test_a_file_that_is_not_there_or_of_another_kind_is_told(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*nowhere\.npz: No such file"):
        load_problem(tmp_path / "nowhere.npz")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InputError, match=r"cannot read .*folder\.json: Is a directory"):
        load_problem(tmp_path / "folder.json")
    with pytest.raises(InputError, match="no problem 'tyo'; it is one of toy, random, image or a file that ends in"):
        case_of("tyo")


def test_a_problem_is_saved_whole_or_not_at_all(tmp_path, full_disk):
    path = tmp_path / "p.npz"
    save_problem(path, toy_case().problem)
    before = path.read_bytes()
    with full_disk(), pytest.raises(InputError, match="cannot write"):
        save_problem(path, simulated_case().problem)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["p.npz"]
    with pytest.raises(InputError, match=r"its name must end in \.npz or \.json"):
        save_problem(tmp_path / "p.txt", toy_case().problem)


def test_a_detector_gives_the_problems_of_the_first_images_that_have_gts(edit_annotations):
    def clear_first(content):
        content["annotations"] = [row for row in content["annotations"] if row["image_id"] != 1]

    dataset = CocoDataset.from_folder(edit_annotations(clear_first, "val"), "val")
    cases = list(detector_cases(eager_detector(num_classes=6), dataset, 2))
    assert [case.title.split(",")[0] for case in cases] == ["image 2", "image 3"]
    for case in cases:
        owner = torch.where(case.labels >= 0, case.labels, len(case.problem.cost) - 1)
        paid = case.problem.cost.gather(0, owner[None]).sum()
        assert torch.isclose(paid, solve(case.problem, "emd").objective, rtol=1e-9)

"""Annotation files with seeded damage: a line of text or a data set, nothing else."""

import copy
import json
import random

import pytest
from coco_files import box, load, write

from otalab.errors import InputError

VALUES = [None, True, "", "x" * 999, "\n", "\ud800", "\0", "../x", "1", 0, -1, 1.5, 2**70, -(2**70), 10**400]
VALUES += [1e308, float("nan"), float("inf"), [], {}, [1], [[[]]], {"a": 1}]


def places(value, path=()):
    """The paths to all that lies in a JSON value."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*path, key)
            yield from places(value[key], (*path, key))


def mutated(content: dict, rng: random.Random) -> bytes:
    """The file with one value deleted, doubled or replaced, or with some of its bytes changed."""
    content = copy.deepcopy(content)
    *path, key = rng.choice(list(places(content)))
    inner = content
    for step in path:
        inner = inner[step]
    kind = rng.choice(["delete", "double", "replace", "replace", "bytes"])
    if kind == "delete":
        del inner[key]
    elif kind == "double" and isinstance(inner, list):
        inner.append(inner[key])
    elif kind == "replace":
        inner[key] = rng.choice(VALUES)
    data = bytearray(json.dumps(content).encode())
    for _ in range(3 * (kind == "bytes")):
        start = rng.randrange(len(data))
        data[start : start + rng.randint(0, 2)] = rng.choice([b"", b"0", b",", b"}", b'"', b"\xff", b"-", b"e9"])
    return bytes(data)


@pytest.mark.parametrize("part", range(4))
def test_a_mutated_annotation_file_is_read_or_refused_in_a_line(tmp_path, part):
    root = write(tmp_path, annotations=[box(1), box(2, image_id=2, category=7, iscrowd=1)])
    path = root / "train" / "instances.json"
    content, kinds = json.loads(path.read_text()), set()
    for seed in range(60 * part, 60 * part + 60):
        path.write_bytes(mutated(content, random.Random(seed)))
        try:
            data = load(root)
            assert json.dumps([data.account(20), data.ground_truth()]).encode()
            kinds.add(len(list(data)) > 0)
        except InputError as error:
            assert "\n" not in str(error) and len(str(error).encode()) < 800
            kinds.add("refused")
    assert kinds == {True, "refused"}

"""Seeded damage: every function takes a whole file or value and a seed, and returns what is left of it."""

import copy
import io
import json
import math
import random
import struct
import zipfile
from xml.etree import ElementTree

import numpy as np
import torch

# What stands where something else should: other types, other ranges, and text that is no name.
STRANGE = (
    *(None, True, 0, -1, 7, 0.5, -0.0, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400, 1e-320, 1e308, -1e308),
    *(math.nan, math.inf, -math.inf, "", "x", "1", "nan", "../x", "/etc/hostname", "a\0b", "\ud800", "x" * 5000),
    *([], {}, [[]], [None], [[[1]]], {"id": 1}, [1, 2, 3, 4], [math.nan] * 4),
)
ENTITIES = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
TWICE = "@twice@"  # marks a key that shall stand twice in one JSON object, which no dict can hold


def of_bytes(data: bytes, seed: int) -> bytes:
    """One to three times: bits flipped, bytes set, cut off, inserted, left out, swapped, repeated, blanked or typed."""
    rng = random.Random(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        a, b, c = sorted(rng.randrange(len(data) + 1) for _ in range(3))
        near = min(len(data), a + rng.choice((1, 2, 4, 16, 256)))  # a short span is damage that passes for sound
        match rng.randrange(9):
            case 0:
                data = data[:a]
            case 1:
                data = data[:a] + data[near:]
            case 2:
                data = data[:a] + data[b:c] + data[a:b] + data[c:]
            case 3:
                data = data[:a] + rng.randbytes(near - a) + data[near:]
            case 4:
                data = data[:a] + rng.randbytes(rng.choice((1, 2, 16, 500))) + data[a:]
            case 5:
                data = data[:near] + data[a:near] * rng.choice((1, 3, 50)) + data[near:]
            case 6:
                data = data[:a] + rng.choice((b"\0", b"\xff")) * (near - a) + data[near:]
            case 7:
                data = data[:a] + rng.choice((b"0", b",", b"}", b'"', b"-", b"e9")) + data[a + rng.randrange(2) :]
            case _:
                data = flipped(data, rng)
    return data


def flipped(data: bytes, rng: random.Random) -> bytes:
    """One to eight bits turned round."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if data else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def of_json(value, seed: int) -> str:
    """JSON of `value` after one or two changes of its structure, at any depth."""
    rng = random.Random(seed)
    holder = [copy.deepcopy(value)]
    for _ in range(rng.choice((1, 1, 2))):
        change(*somewhere(holder, rng), rng)
    return json.dumps(holder[0]).replace(TWICE, "")


def somewhere(holder: list, rng: random.Random) -> tuple[list | dict, int | str]:
    """A container and a place in it, found by going down at random: outer places are as likely as all inner ones."""
    node, key = holder, 0
    while isinstance(node[key], list | dict) and len(node[key]) and rng.random() < 0.8:
        node = node[key]
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
    return node, key


def change(node: list | dict, key: int | str, rng: random.Random, deepest: int = 400) -> None:
    """Replace what stands at a place, or the place itself."""
    value = node[key]
    kind = rng.randrange(8)
    if kind == 0:
        del node[key]
        node.append(None) if isinstance(node, list) and not node else None  # the holder keeps something
    elif kind == 1 and isinstance(node, dict):
        node[rng.choice((str(key).upper(), f"{key}s", "", "x"))] = node.pop(key)
    elif kind == 2 and isinstance(node, dict):
        node[f"{TWICE}{key}"] = rng.choice((copy.deepcopy(value), rng.choice(STRANGE)))
    elif kind == 3 and isinstance(value, list):
        value += copy.deepcopy(value) * rng.choice((1, 20))
    elif kind == 4 and isinstance(value, list):
        rng.shuffle(value)
    elif kind == 5:
        node[key] = nested(value, rng.choice((1, 2, 50, deepest)))
    elif kind == 6 and type(value) in (int, float) and abs(value) < 1e300:
        node[key] = value * rng.choice((-1, 0, 1.5, 1e-9, 1e9, 10**25))
    else:
        node[key] = copy.deepcopy(rng.choice(STRANGE))


def nested(value, depth: int) -> list:
    """The value in so many lists."""
    for _ in range(depth):
        value = [value]
    return value


def of_safetensors(data: bytes, seed: int, metadata: str) -> bytes:
    """Damage to the header: its length, a tensor's shape, dtype or place, the JSON under `metadata`, or any part."""
    rng = random.Random(seed)
    size = struct.unpack("<Q", data[:8])[0]
    header, tensors = json.loads(data[8 : 8 + size]), data[8 + size :]
    kind = rng.randrange(6)
    if kind == 0:
        return struct.pack("<Q", rng.choice((0, 1, size - 1, size + 1, len(data), 2**31, 2**63, 2**64 - 1))) + data[8:]
    if kind == 1:
        text = of_json(header, seed)
    elif kind == 2:
        entry = header[rng.choice([name for name in header if name != "__metadata__"])]
        entry[rng.choice(("dtype", "shape", "data_offsets"))] = rng.choice(
            ("F16", "I32", "F64", "C64", [], [1], [2**40, 2**40], [-1], [0, 4], [0, len(tensors)], [8, 0], 3, None)
        )
        text = json.dumps(header)
    else:
        described = json.loads(header["__metadata__"][metadata])
        header["__metadata__"][metadata] = of_json(described, seed)
        text = json.dumps(header)
    packed = text.encode(errors="replace")
    return struct.pack("<Q", len(packed)) + packed + tensors


def of_arrays(arrays: dict[str, np.ndarray], seed: int) -> bytes:
    """A .npz of the arrays with one of them of another shape, dtype, order or value, mislabelled or missing."""
    rng = random.Random(seed)
    arrays = dict(arrays)
    key = rng.choice(list(arrays))
    values = arrays[key]
    spot = rng.randrange(values.size)
    spoilt = values.astype(np.float64)
    spoilt.flat[spot] = rng.choice((np.nan, np.inf, -np.inf, -1.0, 0.0, 1e300, 1e18, 1e-300, 0.5))
    strange = (
        *(spoilt, spoilt, spoilt, values.T, values[..., :-1], values[None], values.ravel(), values[:0], values[::-1]),
        *(values.astype(dtype) for dtype in (">f8", "f2", "f4", "i1", "u8", "c16", "?", "S3", "U4", "m8[s]", "M8[s]")),
        *(np.asfortranarray(values), np.array(None, dtype=object), np.array(3.0), np.zeros(5000), values * 1e17),
        *(np.ma.masked_array(values, True), np.zeros(3, dtype=[("a", "f8"), ("b", "i4")])),
    )
    arrays[key] = rng.choice(strange)
    if rng.random() < 0.1:
        arrays[rng.choice(("Cost", "x", ""))] = arrays.pop(key)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue() if rng.random() < 0.8 else claiming(stream.getvalue(), rng)


def claiming(packed: bytes, rng: random.Random) -> bytes:
    """The same .npz with headers that claim another shape or dtype than the numbers that follow, checksums mended."""
    stream = io.BytesIO()
    false = rng.choice(((b"(3, 6)", b"(3, 6000000000)"), (b"(3,)", b"(-3,)"), (b"<f8", b"<f16"), (b"(6,)", b"(6, 0)")))
    with zipfile.ZipFile(io.BytesIO(packed)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(*false))
    return stream.getvalue()


def of_state(state: dict, seed: int) -> bytes:
    """A whole file of torch.save in which one part of the state is another: type, shape, dtype, value or missing."""
    rng = random.Random(seed)
    holder = [copy.deepcopy(state)]
    node, key = somewhere(holder, rng)
    value = node[key]
    if isinstance(value, torch.Tensor):
        spoilt = value.double().clone(memory_format=torch.contiguous_format)
        spoilt.view(-1)[rng.randrange(spoilt.numel())] = rng.choice((math.nan, math.inf, -math.inf))
        strange = (
            *(spoilt.to(value.dtype), spoilt, spoilt, value[None], value.flatten()[:-1], value.flatten()[:0]),
            *(value.to(torch.complex64), value.to(torch.float16), value > 0, value.new_zeros(1).expand(2**40), None),
        )
        node[key] = rng.choice((*strange, rng.choice(STRANGE)))
    else:
        change(node, key, rng, deepest=50)  # torch.save goes down with it
    stream = io.BytesIO()
    torch.save(holder[0], stream)
    return stream.getvalue()


def of_xml(text: str, seed: int) -> bytes:
    """XML after one or two changes: an element left out, renamed, repeated, nested, or with a strange text in it."""
    rng = random.Random(seed)
    root = ElementTree.fromstring(text)
    for _ in range(rng.choice((1, 1, 2))):
        parent = rng.choice([element for element in root.iter() if len(element)])
        child = rng.choice(list(parent))
        match rng.randrange(6):
            case 0 if parent is not root or len(parent) > 1:
                parent.remove(child)
            case 1:
                child.tag = rng.choice((child.tag.upper(), "x", f"{child.tag}s", "annotation"))
            case 2:
                parent.extend([copy.deepcopy(child)] * rng.choice((1, 20)))
            case 3:
                parent.remove(child)
                ElementTree.SubElement(parent, "x").append(child)
            case _:
                child.text = str(rng.choice(STRANGE))
    head = rng.choice(("", "", "", "", ENTITIES, '<?xml version="1.0" encoding="no-such"?>'))
    body = ElementTree.tostring(root, encoding="unicode").replace("\0", "&#0;")
    return (head + body).encode(errors="replace")


def of_words(text: str, seed: int) -> bytes:
    """Lines of words in which one or two words are strange, missing or repeated."""
    rng = random.Random(seed)
    lines = [line.split() for line in text.splitlines()]
    for _ in range(rng.choice((1, 1, 2))):
        line = rng.choice(lines)
        place = rng.randrange(max(1, len(line)))
        line[place : place + rng.randrange(2)] = rng.choice(([], [str(rng.choice(STRANGE))], line[place:] * 2))
    return "\n".join(" ".join(line) for line in lines).encode(errors="replace")

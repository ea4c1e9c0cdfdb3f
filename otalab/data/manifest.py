"""Manifests: which photos of COCO a set consists of, with a hash that shows whether two sets are the same."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from otalab.data.reading import parse_json, read_file
from otalab.errors import InputError, quoted
from otalab.files import write_json

SOURCE = "COCO 2017"
NAME = "ids.json"  # name of the manifest beside a split's instances.json
_MOST_ID = 2**53


@dataclass(frozen=True)
class Manifest:
    """The photos of a split."""

    split: str
    """train or val"""
    ids: list[int]
    """Ids of the photos, in ascending order, without repeats."""
    categories: list[str] | None = None
    """Names of the categories that the set was made for; None: all."""
    seed: int | None = None
    """Seed of the sample; None if the photos were not drawn by a seed."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the ids in decimal, one per line; `sha256sum` of a file with these lines gives the same."""
        return hashlib.sha256("".join(f"{i}\n" for i in self.ids).encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write the manifest as JSON, whole or not at all."""
        said = {"source": SOURCE, "split": self.split, "categories": self.categories, "seed": self.seed}
        write_json(path, said | {"count": len(self.ids), "sha256": self.sha256, "ids": self.ids})


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest. Raises InputError if it is damaged: its count and its hash must fit its ids."""
    path = Path(path)
    content = parse_json(read_file(path), path, "a manifest")
    if content.get("source") != SOURCE:
        raise InputError(f"{path} is no manifest of {SOURCE}")
    split, ids, categories, seed = (content.get(key) for key in ("split", "ids", "categories", "seed"))
    if split not in ("train", "val"):
        raise InputError(f"{path} has split {quoted(split)}, neither train nor val")
    if type(ids) is not list or not ids or any(type(i) is not int or not 0 <= i < _MOST_ID for i in ids):
        raise InputError(f"{path} has ids {quoted(ids)}, not a list of whole numbers")
    if ids != sorted(set(ids)):
        raise InputError(f"{path} has ids twice or out of their order")
    named = type(categories) is list and categories and all(type(name) is str for name in categories)
    if categories is not None and not named:
        raise InputError(f"{path} has categories {quoted(categories)}, not a list of names")
    if seed is not None and type(seed) is not int:
        raise InputError(f"{path} has seed {quoted(seed)}, not a whole number")
    manifest = Manifest(split, ids, categories, seed)
    if content.get("count") != len(ids) or content.get("sha256") != manifest.sha256:
        said = f"count {quoted(content.get('count'))} and sha256 {quoted(content.get('sha256'))}"
        raise InputError(f"{path} has {said}, but its {len(ids)} ids give sha256 {manifest.sha256}")
    return manifest

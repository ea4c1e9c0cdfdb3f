"""Files are written whole or not at all."""

import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from otalab.errors import InputError


@contextmanager
def write_whole(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` when the block ends without an exception.

    A reader therefore sees the old file or the new one, never a part. The parent folder is made if needed.
    Raises InputError, which names the path, when the folder cannot be written, the disk is full, or the path is
    something else than a file (renaming onto /dev/stdout would replace it).
    """
    path = Path(path)
    temporary = None
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"cannot write {path}: it exists and is not a regular file")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())  # a rename may reach the disk before the data it names
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, value) -> None:
    """Write JSON, whole; see `to_json`."""
    with write_whole(path) as temporary:
        temporary.write_text(to_json(value, indent=2) + "\n")


def to_json(value, indent: int | None = None) -> str:
    """JSON in which numbers that are not finite, for which JSON has no word, are null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

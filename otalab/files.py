"""Write files and folders whole or not at all, and remove what killed processes left of them."""

import glob
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from otalab.errors import InputError

try:
    import fcntl
except ImportError:  # Windows, where nothing is swept
    fcntl = None

MARK = ".otalab-"  # in the name of what is being written: .NAME.otalab-RANDOM, then the suffix
ENOUGH = 40  # characters of NAME that are kept, so that a file's name may be as long as the system allows


@contextmanager
def write_whole(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` when the block ends without an exception.

    A reader therefore sees the old file or the new one, never a part. The parent folder is made if needed.
    Raises InputError, which names the path, if the folder cannot be written, if the disk is full, or if the path exists
    and is not a regular file (renaming onto /dev/stdout would replace it).
    """
    path = Path(path)
    require_regular(path)
    with _claimed(path, Path.touch) as temporary:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())  # a rename may reach the disk before the data of the file
        temporary.replace(path)


def require_writable(path: Path) -> None:
    """Raise InputError, which names the path, if `write_whole` could not start to write there.

    A computation that takes minutes calls this first.
    """
    require_regular(path)
    folder = next(each for each in path.absolute().parents if os.path.exists(each))
    if not folder.is_dir():
        raise InputError(f"cannot write {path}: {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {path}: {folder} is not yours to write in")


def require_regular(path: Path) -> None:
    """Raise InputError if the path exists and is not a regular file, for example a folder or /dev/stdout."""
    if os.path.exists(path) and not os.path.isfile(path):  # False, not an error, where one may not look
        raise InputError(f"cannot write {path}: it exists and is not a regular file")


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; the caller renames it, or what it makes in it, onto `path`.

    What is left of the folder is removed when the block ends. Folders that killed processes left for the same path are
    removed before it begins. Raises InputError, which names the path, if no folder can be made, and in place of an
    OSError in the block.
    """
    with _claimed(path, Path.mkdir) as temporary:
        sweep(temporary.parent, path.absolute().name)
        yield temporary


def sweep(folder: str | os.PathLike, name: str | None = None) -> None:
    """Remove from `folder` what killed processes left of `write_whole` and `folder_beside`, for `name` or any name.

    A process holds a lock on what it is writing, until it ends in whatever way: what is locked stays. On Windows
    nothing is removed.
    """
    if fcntl is None:
        return
    for left in Path(folder).glob(f".{'*' if name is None else glob.escape(name[:ENOUGH])}{MARK}*"):
        with suppress(OSError):  # another process holds it or swept it first, or this file system has no locks
            handle = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(left)
            finally:
                os.close(handle)


@contextmanager
def _claimed(path: Path, make: Callable[..., None]) -> Iterator[Path]:
    """Make a file or folder beside `path`, locked while this process lives; remove it when the block ends.

    Raises InputError, which names the path, in place of an OSError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, handle = _locked(path.absolute(), make)
        try:
            yield temporary
        finally:
            _remove(temporary)
            if handle is not None:
                os.close(handle)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def _locked(path: Path, make: Callable[..., None]) -> tuple[Path, int | None]:
    while True:
        temporary = path.with_name(f".{path.name[:ENOUGH]}{MARK}{secrets.token_hex(4)}{path.suffix}")
        make(temporary, exist_ok=False)
        if fcntl is None:
            return temporary, None
        with suppress(FileNotFoundError):  # another process swept it before it was locked: make another
            handle = os.open(temporary, os.O_RDONLY)
            with suppress(OSError):  # this file system has no locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if temporary.exists():
                return temporary, handle
            os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, value) -> None:
    """Write a value as JSON, whole or not at all; see `to_json`."""
    with write_whole(path) as temporary:
        temporary.write_text(to_json(value, indent=2) + "\n")


def read_json(path: Path) -> object:
    """The value of a JSON file; None if the file cannot be read or is not JSON."""
    with suppress(OSError, ValueError, RecursionError):
        return json.loads(path.read_bytes())
    return None


def to_json(value, indent: int | None = None) -> str:
    """The value as JSON. Numbers that are not finite become null, because JSON cannot express them."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

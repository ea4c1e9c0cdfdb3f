"""Files and folders are written whole or not at all, and what killed processes left of them is swept up."""

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
except ImportError:  # Windows; there nothing is swept
    fcntl = None

MARK = ".otalab-"  # in the name of what is being written: .NAME.otalab-RANDOM
ENOUGH = 40  # letters of NAME, so that the name of a file may be as long as the system allows


@contextmanager
def write_whole(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` when the block ends without an exception.

    A reader therefore sees the old file or the new one, never a part. The parent folder is made if needed.
    Raises InputError, which names the path, when the folder cannot be written, the disk is full, or the path is
    something else than a file (renaming onto /dev/stdout would replace it).
    """
    path = Path(path)
    try:
        require_regular(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _claimed(path, Path.touch) as temporary:
            yield temporary
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())  # a rename may reach the disk before the data it names
            temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def require_writable(path: Path) -> None:
    """Raise InputError, which names the path, where `write_whole` would not get so far as to write.

    What takes minutes to reckon asks this first.
    """
    require_regular(path)
    folder = next(each for each in path.absolute().parents if each.exists())
    if not folder.is_dir():
        raise InputError(f"cannot write {path}: {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {path}: {folder} is not yours to write in")


def require_regular(path: Path) -> None:
    """Raise InputError where something else than a file is in the way, such as a folder or /dev/stdout."""
    if path.exists() and not path.is_file():
        raise InputError(f"cannot write {path}: it exists and is not a regular file")


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`, to be renamed onto it; what is left of it is removed when the block ends.

    First removes what killed processes left of such folders. Raises InputError, which names the path, when no folder
    can be made, and in place of an OSError in the block.
    """
    target = path.absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent, target.name)
        with _claimed(target, Path.mkdir) as temporary:
            yield temporary
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def sweep(folder: str | os.PathLike, name: str | None = None) -> None:
    """Remove from `folder` what killed processes left of `write_whole` and `folder_beside`: of all names, or of `name`.

    What a living process still writes is locked by it, and stays.
    """
    if fcntl is None:
        return
    for left in Path(folder).glob(f".{'*' if name is None else glob.escape(name[:ENOUGH])}{MARK}*"):
        with suppress(OSError):  # another process swept it first
            handle = os.open(left, os.O_RDONLY)
            try:
                if _lock(handle, fcntl.LOCK_NB):
                    _remove(left)
            finally:
                os.close(handle)


@contextmanager
def _claimed(path: Path, make: Callable[..., None]) -> Iterator[Path]:
    """A new file or folder beside `path`, locked while this process lives, and removed when the block ends."""
    temporary, handle = _locked(path, make)
    try:
        yield temporary
    finally:
        _remove(temporary)
        if handle is not None:
            os.close(handle)


def _locked(path: Path, make: Callable[..., None]) -> tuple[Path, int | None]:
    while True:
        temporary = path.with_name(f".{path.name[:ENOUGH]}{MARK}{secrets.token_hex(4)}{path.suffix}")
        make(temporary, exist_ok=False)
        if fcntl is None:
            return temporary, None
        with suppress(FileNotFoundError):  # swept between its making and its locking: make another
            handle = os.open(temporary, os.O_RDONLY)
            _lock(handle)
            if temporary.exists():
                return temporary, handle
            os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _lock(handle: int, how: int = 0) -> bool:
    """Whether this process holds the file now; the system lets go of it when the process ends, however it ends."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | how)
    except OSError:  # another holds it, or this file system has no locks
        return False
    return True


def write_json(path: str | os.PathLike, value) -> None:
    """Write JSON, whole; see `to_json`."""
    with write_whole(path) as temporary:
        temporary.write_text(to_json(value, indent=2) + "\n")


def read_json(path: Path) -> object:
    """The value of a JSON file; None where there is none, or it is no JSON."""
    with suppress(OSError, ValueError, RecursionError):
        return json.loads(path.read_bytes())
    return None


def to_json(value, indent: int | None = None) -> str:
    """JSON in which numbers that are not finite, for which JSON has no word, are null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

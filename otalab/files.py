"""Files and folders are written whole or not at all, and what killed processes left of them is swept up."""

import glob
import json
import math
import os
import shutil
import tempfile
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
    temporary = handle = None
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"cannot write {path}: it exists and is not a regular file")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, handle = _claim(_new_file, path.name, dir=path.parent, suffix=path.suffix)
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
            _release(handle)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`, to be renamed onto it; what is left of it is removed when the block ends.

    First removes what killed processes left of such folders. Raises OSError when no folder can be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, path.name)
    temporary, handle = _claim(tempfile.mkdtemp, path.name, dir=path.parent)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _release(handle)


def sweep(folder: str | os.PathLike, name: str | None = None) -> None:
    """Remove what `write_whole` and `folder_beside` of killed processes left in `folder`, all or that called `name`.

    What a living process still writes is locked by it, and stays.
    """
    if fcntl is None:
        return
    for left in Path(folder).glob(f".{'*' if name is None else glob.escape(name[:ENOUGH])}{MARK}*"):
        with suppress(OSError):  # another process swept it first
            handle = os.open(left, os.O_RDONLY)
            try:
                if _lock(handle):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            finally:
                os.close(handle)


def _claim(make: Callable[..., str], name: str, **options) -> tuple[Path, int | None]:
    """A new file or folder by one of tempfile's makers, and the descriptor that locks it while this process lives."""
    while True:
        temporary = Path(make(prefix=f".{name[:ENOUGH]}{MARK}", **options))
        if fcntl is None:
            return temporary, None
        with suppress(FileNotFoundError):  # swept between its making and its locking: make another
            handle = os.open(temporary, os.O_RDONLY)
            _lock(handle, wait=True)
            if temporary.exists():
                return temporary, handle
            os.close(handle)


def _new_file(**options) -> str:
    handle, name = tempfile.mkstemp(**options)
    os.close(handle)
    return name


def _lock(handle: int, wait: bool = False) -> bool:
    """Whether this process holds the file now; the system lets go of it when the process ends, however it ends."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # another holds it, or this file system has no locks
        return False
    return True


def _release(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


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

"""Zip and tar archives that cannot write outside their folder."""

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from otalab.data.wording import quoted, shown
from otalab.errors import InputError
from otalab.progress import progress_bar


class _Member(NamedTuple):
    name: str
    size: int
    """bytes once extracted"""
    kind: str
    """"file", "folder" or "other": links, devices"""
    open: Callable[[], IO[bytes]]


def safe_extract(
    archive: str | Path, folder: str | Path, choose: Callable[[str], bool] | None = None, progress: bool = True
) -> list[Path]:
    """Extract the files of a zip or tar archive into `folder`, all or those whose name `choose` accepts.

    Every member is looked at before the first is written: a link, a device, or a path that is absolute or climbs out
    of the folder raises InputError with its name, and nothing is written. So does an archive larger than the free disk
    space. Each file appears whole. Returns the paths written.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                return _extract(
                    archive, [_zip_member(file, info) for info in file.infolist()], folder, choose, progress
                )
        with tarfile.open(archive) as file:
            return _extract(archive, [_tar_member(file, info) for info in file], folder, choose, progress)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot extract {archive} to {folder}: {error.strerror or error}") from error
    except Exception as error:  # the readers raise whatever the damage leads them to
        raise InputError(f"cannot extract {archive}: {shown(error) or type(error).__name__}") from error


def require_room(source: str | Path, need: int, folder: Path) -> None:
    """Raise InputError unless the disk of a folder, which exists, has so many bytes free."""
    free = shutil.disk_usage(folder).free
    if need > free:
        raise InputError(f"{shown(source)} needs {need / 1e9:.1f} GB but {folder} has {free / 1e9:.1f} GB free")


def _zip_member(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    mode = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was made on a system without modes
    kind = "folder" if info.is_dir() else "file" if mode in (0, stat.S_IFREG) else "other"
    return _Member(info.filename, info.file_size, kind, partial(file.open, info))


def _tar_member(file: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    kind = "folder" if info.isdir() else "file" if info.isreg() else "other"
    return _Member(info.name, info.size, kind, partial(file.extractfile, info))


def _extract(
    archive: Path, members: list[_Member], folder: Path, choose: Callable[[str], bool] | None, progress: bool
) -> list[Path]:
    for member in members:
        path = PurePosixPath(member.name)
        if member.kind == "other" or path.is_absolute() or ".." in path.parts or set(member.name) & set("\\:\0"):
            raise InputError(f"{archive}: will not extract {quoted(member.name)}: a link, or outside the folder")
    members = [m for m in members if m.kind == "file" and (choose is None or choose(m.name))]
    folder.mkdir(parents=True, exist_ok=True)
    require_room(archive, sum(m.size for m in members), folder)
    return [_write(m, folder) for m in progress_bar(members, desc=archive.name, unit="file", disable=not progress)]


def _write(member: _Member, folder: Path) -> Path:
    path = folder / member.name
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with member.open() as source, part.open("wb") as target:
        shutil.copyfileobj(source, target)
    part.replace(path)
    return path

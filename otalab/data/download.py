"""Downloads that resume, are checked and appear whole, and safe extraction of archives."""

import hashlib
import http.client
import shutil
import stat
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from otalab.errors import InputError, quoted
from otalab.progress import progress_bar

_CHUNK = 1 << 18  # bytes
_TIMEOUT = 30  # seconds without a byte
_PASSING = (429, 500, 502, 503, 504)  # HTTP statuses worth another attempt


def fetch(url: str, path: str | Path, md5: str | None = None, progress: bool = True, attempts: int = 3) -> Path:
    """Download `url` (http or https) to `path`; return the path.

    A file that is already there is kept if it has the MD5 sum, or if no sum is given. Bytes are written to `path` +
    ".part", which is renamed to `path` when it is complete and checked. With a sum, the next attempt or call continues
    where the last one stopped, because the sum shows whether old and new bytes belong together. Raises InputError with
    the URL and the HTTP status, or the bytes received, or the sums.
    """
    path = Path(path)
    if not url.startswith(("http://", "https://")):
        raise InputError(f"cannot fetch {url}: not an http or https address")
    if path.exists() and (md5 is None or _md5(path) == md5.lower()):
        return path
    part = path.with_name(path.name + ".part")
    for attempt in range(1, attempts + 1):
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            _receive(url, part, md5 is not None, progress)
            break
        except urllib.error.HTTPError as error:
            fault, passing = f"HTTP {error.code} {error.reason}", error.code in _PASSING
        except (OSError, http.client.HTTPException) as error:
            fault, passing = error, True
        except ValueError as error:  # no room on the disk, or an invalid address
            fault, passing = error, False
        if attempt == attempts or not passing:
            raise InputError(f"cannot fetch {url}: {fault}")
        time.sleep(attempt)
    if md5 is not None and (found := _md5(part)) != md5.lower():
        part.unlink()
        raise InputError(f"{url} arrived damaged: its md5 is {found}, not {md5}")
    return part.replace(path)


def _receive(url: str, part: Path, resume: bool, progress: bool) -> None:
    """Download the file, or what is missing of it, to `part`. Raises OSError if the response ends early."""
    have = part.stat().st_size if resume and part.exists() else 0
    headers = {"User-Agent": "otalab"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing is missing, or this is another file: the sum will tell
            return
        raise
    with response:
        done = have if response.headers.get("Content-Range", "").startswith(f"bytes {have}-") else 0
        total = None if response.length is None else done + response.length
        require_room(part.stem, response.length or 0, part.parent)
        bar = progress_bar(desc=part.stem, total=total, initial=done, unit="B", unit_scale=True, disable=not progress)
        with part.open("ab" if done else "wb") as file, bar:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
                done += len(chunk)
    if total is not None and done < total:
        raise OSError(f"ended after {done} of {total} bytes")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def require_room(source: str | Path, need: int, folder: Path) -> None:
    """Raise InputError unless the disk of an existing folder has `need` bytes free; `source` is for the message."""
    free = shutil.disk_usage(folder).free
    if need > free:
        raise InputError(f"{source} needs {need / 1e9:.1f} GB but {folder} has {free / 1e9:.1f} GB free")


def safe_extract(
    archive: str | Path, folder: str | Path, choose: Callable[[str], bool] | None = None, progress: bool = True
) -> list[Path]:
    """Extract the files of a zip archive into `folder`: all, or those whose name `choose` accepts.

    Every member is checked before the first is written. A link, or a path that is absolute or leads out of the folder,
    raises InputError with its name, and nothing is written. (`zipfile` would silently write it elsewhere.) An archive
    larger than the free disk space raises InputError too. Each file appears whole. Returns the paths written.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        with zipfile.ZipFile(archive) as file:
            for member in file.infolist():
                name, link = member.filename, stat.S_ISLNK(member.external_attr >> 16)
                if link or name.startswith("/") or ".." in PurePosixPath(name).parts or set(name) & set("\\:\0"):
                    raise InputError(f"{archive}: will not extract {quoted(name)}: a link, or outside the folder")
            members = [m for m in file.infolist() if not m.is_dir() and (choose is None or choose(m.filename))]
            folder.mkdir(parents=True, exist_ok=True)
            require_room(archive, sum(m.file_size for m in members), folder)
            bar = progress_bar(members, desc=archive.name, unit="file", disable=not progress)
            return [_extract(file, member, folder / member.filename) for member in bar]
    except InputError:
        raise
    except Exception as error:  # a damaged archive can make zipfile raise anything
        raise InputError(f"cannot extract {archive} to {folder}: {error or type(error).__name__}") from error


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with archive.open(member) as source, part.open("wb") as target:
        shutil.copyfileobj(source, target)
    return part.replace(path)

"""Reading the user's files and folders; what is missing or of the wrong kind raises an InputError of one line."""

import json
import stat
from collections import Counter
from pathlib import Path

from otalab.errors import InputError, quoted


def require_folder(folder: str | Path) -> Path:
    """The path of an existing folder. Raises InputError if there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no folder {folder}")
    return folder


def require_file(path: Path) -> None:
    """Raise InputError unless the path is a regular file, and OSError if it does not exist.

    A pipe or a device could keep a reader waiting for ever.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'not a regular file'}")


def read_file(path: Path) -> bytes:
    """The content of a file. Raises InputError if it cannot be read."""
    try:
        require_file(path)
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None


def read_text(path: Path) -> str:
    """The text of a file in UTF-8. Raises InputError if the file cannot be read or is not such a text."""
    data = read_file(path)
    try:
        return data.decode("utf-8-sig")
    except ValueError as error:
        raise InputError(f"cannot read {path}: {error}") from None


def parse_json(data: bytes, where: str | Path, what: str) -> dict:
    """The dictionary of a JSON text in UTF-8, UTF-16 or UTF-32.

    Raises InputError, whose message begins with `where`, if the text is not JSON, if it is no dictionary or nested too
    deep to be `what`, or if a dictionary in it has the same key twice.
    """
    try:
        content = json.loads(data, object_pairs_hook=_without_repeats)
    except RecursionError:
        raise InputError(f"{where} is not {what}: its brackets are nested too deep") from None
    except ValueError as error:  # not JSON, not Unicode, a repeated key, or a number of thousands of digits
        fault = "compressed, unpack it first" if data[:2] == b"\x1f\x8b" else error
        raise InputError(f"{where} is not JSON: {fault}" if data.strip() else f"{where} is empty") from None
    if not isinstance(content, dict):
        raise InputError(f"{where} holds a {type(content).__name__}, not {what}")
    return content


def _without_repeats(pairs: list[tuple[str, object]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"a dictionary has the key {quoted(key)} twice")
    return found

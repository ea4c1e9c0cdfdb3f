"""JSON out of people's files: what is none is told in one line."""

import json
from collections import Counter
from pathlib import Path

from otalab.errors import InputError, quoted


def parse_json(data: bytes, where: str | Path, what: str) -> object:
    """The value of a JSON text in any Unicode encoding.

    Raises InputError, which begins with `where`, for what is no JSON, is nested too deep to be `what`, or has a key
    twice in one dictionary.
    """
    try:
        return json.loads(data, object_pairs_hook=_without_repeats)
    except RecursionError:
        raise InputError(f"{where} is not {what}: its brackets are nested too deep") from None
    except ValueError as error:  # no JSON, no Unicode, a key given twice, a number of thousands of digits
        fault = "compressed, unpack it first" if data[:2] == b"\x1f\x8b" else error
        raise InputError(f"{where} is not JSON: {fault}" if data.strip() else f"{where} is empty") from None


def _without_repeats(pairs: list[tuple[str, object]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"a dictionary has the key {quoted(key)} twice")
    return found

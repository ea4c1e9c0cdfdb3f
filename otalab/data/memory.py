"""How much memory a program may still take."""

import os
from contextlib import suppress
from pathlib import Path


def free_memory() -> int | None:
    """Bytes that this process can take before the machine swaps or a container's limit kills it; None if unknown."""
    known = []
    with suppress(AttributeError, OSError, ValueError):  # no such number on Windows
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, KeyError):  # Linux alone
        known.append(1024 * _numbers(Path("/proc/meminfo"))["MemAvailable:"])
    with suppress(OSError, KeyError, ValueError):  # no control group, or its limit is "max"
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        caches = _numbers(group / "memory.stat")["inactive_file"]  # which the kernel gives up first
        known.append(limit - used + caches)
    return min(known, default=None)


def _numbers(path: Path) -> dict[str, int]:
    """The first number of each line by its first word."""
    return {words[0]: int(words[1]) for words in map(str.split, path.read_text().splitlines())}

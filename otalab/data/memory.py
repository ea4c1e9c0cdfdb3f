"""How much memory this process can still take."""

import os
from contextlib import suppress
from pathlib import Path


def free_memory() -> int | None:
    """Bytes that this process can take before the machine swaps or a container's limit kills it; None if unknown."""
    known = []
    with suppress(AttributeError, OSError, ValueError):  # Windows has no such number
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, KeyError):  # Linux only
        known.append(1024 * _numbers(Path("/proc/meminfo"))["MemAvailable:"])
    with suppress(OSError, KeyError, ValueError):  # no control group, or its limit is "max"
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        caches = _numbers(group / "memory.stat")["inactive_file"]  # the kernel frees these first
        known.append(limit - used + caches)
    return min(known, default=None)


def _numbers(path: Path) -> dict[str, int]:
    """The number in each line of a file (its second word), by the first word."""
    return {words[0]: int(words[1]) for words in map(str.split, path.read_text().splitlines())}

"""How much memory a program may still take."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def free_memory() -> int | None:
    """Bytes that this process can take before the machine swaps or a container's limit kills it; None if unknown."""
    known = [value for value in (_machine(), _container()) if value is not None]
    return min(known, default=None)


def _machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # not Linux
        names = os.sysconf_names if hasattr(os, "sysconf_names") else {}
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_PHYS_PAGES" in names else None


def _container() -> int | None:
    """What a control group leaves; its file cache counts as free, as the kernel gives it up first."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit == "max":
            return None
        rows = (line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        cache = next(int(value) for name, value in rows if name == "inactive_file")
        return int(limit) - int((_CGROUP / "memory.current").read_text()) + cache
    except (OSError, StopIteration, ValueError):
        return None

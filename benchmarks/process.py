"""What a process costs."""

from pathlib import Path


def resident(pid: int | str = "self") -> int:
    """KiB of memory that it holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

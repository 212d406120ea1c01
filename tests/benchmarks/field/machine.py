"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path

from tests.benchmarks.field.processes import output_of


def machine(folder: Path) -> dict[str, str]:
    """Return the machine in words, with the file system of a folder; nothing that names owner or folders."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = next(
        line.split()[1]
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemTotal")
    )
    return {
        "processor": f"{cpu}, {os.cpu_count()} cores",
        "memory": f"{int(memory) / 1024 / 1024:.0f} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "file system": output_of(["findmnt", "-n", "-o", "FSTYPE", "-T", folder]).strip() or "unknown",
        "congestion control": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "Python": sys.version.split()[0],
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }

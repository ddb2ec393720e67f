"""What the bench finds, and on which machine."""

import platform
from pathlib import Path

from msgspec import Struct

from lightning_proxy import __version__
from lightning_proxy.transport import kernel_name


class Figure(Struct, frozen=True):
    """A measured rate: per second of the clock ("/s"), or of the relay's processor ("/CPU-s")."""

    what: str
    value: float
    unit: str


def machine() -> dict[str, str]:
    """Where figures come from: processor, versions, the kernel in use."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {
        "cpu": cpu,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "kernel": kernel_name(),
        "version": __version__,
    }

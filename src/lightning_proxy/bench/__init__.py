"""What this machine can do, in seconds: frames on one core, and a relay's sessions and pongs."""

from lightning_proxy.bench.figures import Figure, machine
from lightning_proxy.bench.frames import measure_frames
from lightning_proxy.bench.sessions import BenchFailed, measure_sessions

__all__ = ["BenchFailed", "Figure", "machine", "measure_frames", "measure_sessions"]

"""The Lightning protocol's vocabulary (BOLTs 1, 2, 7 and 9): no I/O, nothing of the relay."""

"""The Lightning protocol's vocabulary (BOLTs 1 to 4, 7, 9 and 11): no I/O, nothing of the relay."""

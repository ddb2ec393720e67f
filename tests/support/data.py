"""The test data that stands in tests/data."""

import json
from pathlib import Path
from typing import Any

_DATA = Path(__file__).parent.parent / "data"


def path_of(name: str) -> Path:
    return _DATA / name


def load_json(name: str) -> Any:
    return json.loads(path_of(name).read_text())

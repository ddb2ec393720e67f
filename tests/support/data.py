"""The test data that stands in tests/data."""

import json
from pathlib import Path
from typing import Any

_DATA = Path(__file__).parent.parent / "data"


def load_json(name: str) -> Any:
    return json.loads((_DATA / name).read_text())

"""`python -m benchmarks`: every benchmark, results.json and RESULTS.md."""

import json
from pathlib import Path

from benchmarks import frames, sessions
from benchmarks.report import machine, progress, table

_HERE = Path(__file__).parent
_MODULES = {"Frames on one core": frames.run, "Sessions": sessions.run}


def main() -> None:
    results = {}
    for title, run in _MODULES.items():
        progress(f"== {title}")
        results[title] = run()
    where = machine()
    lines = ["# Results", "", *(f"- {name}: {value}" for name, value in where.items())]
    for title, result in results.items():
        lines += ["", f"## {title}", "", table(result)]
    (_HERE / "RESULTS.md").write_text("\n".join(lines) + "\n")
    (_HERE / "results.json").write_text(
        json.dumps({title: result.to_json() for title, result in results.items()}, indent=1) + "\n"
    )
    print((_HERE / "RESULTS.md").read_text())


if __name__ == "__main__":
    main()

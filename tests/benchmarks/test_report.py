"""What becomes of results: the table, results.json as pytest-benchmark reads it, the plots."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from benchmarks import __main__ as program
from benchmarks import plots, report
from benchmarks.plots import COLOURS, GREY, draw
from benchmarks.report import Results, Row, table
from benchmarks.storage import document, seconds
from tests.benchmarks.samples import DENSITY, FRAMES, RATES

ALL = {"frames": FRAMES, "density": DENSITY, "pong": RATES}


def test_ratios_say_how_many_times_better_ours_is() -> None:
    less = Row("a", "ns", [100, 300, 200], {"b": [400, 600, 500]}, more_is_better=False)
    assert less.ratios() == {"b": 2.5}
    assert Row("a", "/s", [500], {"b": [200]}).ratios() == {"b": 2.5}
    assert FRAMES.to_json()["ratios"]["seal, 20 B / libsodium"] == pytest.approx(7.263)


def test_the_table_has_a_column_for_each_rival() -> None:
    rows = [
        Row("first", "ns", [100], {"lnd": [250]}, more_is_better=False),
        Row("second", "/s", [30_000], {"LDK": [10_000]}),
    ]
    lines = table(Results(rows, missing={"OpenSSL": "no headers"})).splitlines()
    assert lines == [
        "| what | ours | lnd | LDK |",
        "|---|---:|---:|---:|",
        "| first, ns | 100 | 250 (2.50x) |  |",
        "| second, /s | 30,000 |  | 10,000 (3.00x) |",
        "",
        "Missing: OpenSSL (no headers)",
    ]


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (250, "ns", 2.5e-7),
        (4, "µs", 4e-6),
        (2, "ms", 2e-3),
        (50_000, "/CPU-s", 2e-5),
        (1_000_000, "frames/s", 1e-6),
        (2_500, "B", None),
        (1.2, "times", None),
    ],
)
def test_seconds_an_operation(value: float, unit: str, expected: float | None) -> None:
    assert seconds(value, unit) == (None if expected is None else pytest.approx(expected))


def test_results_json() -> None:
    stored = json.loads(json.dumps(document(ALL)))
    names = [entry["name"] for entry in stored["benchmarks"]]
    assert "seal, 150 B [OpenSSL]" in names
    assert len(set(names)) == len(names)
    entry = stored["benchmarks"][names.index("pongs, 1,000 sessions [lnd]")]
    assert entry["stats"]["median"] == pytest.approx(1 / 90_000)
    assert entry["extra_info"]["ratio"] == pytest.approx(3.444)
    assert entry["extra_info"]["unit"] == "/CPU-s"
    # Bytes are no time.
    assert {entry["extra_info"]["unit"] for entry in stored["quantities"]} == {"B"}
    assert stored["missing"]["frames"] == {"lnd": "there is no Go"}
    assert stored["versions"]["frames"]["OpenSSL"] == "3.0"


def test_pytest_benchmark_reads_it(tmp_path: Path) -> None:
    for name in ("before", "after"):
        (tmp_path / f"{name}.json").write_text(json.dumps(document(ALL)))
    command = [sys.executable, "-m", "pytest_benchmark", "compare", "before.json", "after.json"]
    done = subprocess.run(
        [*command, "--group-by=fullname", "--columns=median,iqr,rounds"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pongs, 1,000 sessions" in done.stdout
    assert done.stdout.count("seal, 150 B [libsodium]") >= 2
    assert "Failed to load" not in done.stdout + done.stderr


def test_the_plots(tmp_path: Path) -> None:
    drawn = draw(ALL, tmp_path)
    assert [path.name for path, _ in drawn] == ["frames.svg", "pongs.svg", "memory.svg"]
    for path, _ in drawn:
        ET.parse(path)  # noqa: S314 - our own
    words = re.findall(r"<!-- (.*?) -->", (tmp_path / "frames.svg").read_text())
    assert {"ours", "libsodium", "OpenSSL", "missing: lnd", "seal", "open"} <= set(words)
    # Nothing of density's is missing.
    assert "missing" not in (tmp_path / "memory.svg").read_text()


def test_a_rival_is_drawn_once() -> None:
    """Rows of our other kernels have the same rival beside them, measured again."""
    row = FRAMES.rows[0]
    other = replace(row, params={**row.params, "implementation": "ours, scalar"})
    lines = plots._frames([row, other])[0].lines
    assert {name: len(line) for name, line in lines.items()} == {
        "ours": 1,
        "libsodium": 1,
        "OpenSSL": 1,
        "ours, scalar": 1,
    }


def test_the_same_numbers_give_the_same_files(tmp_path: Path) -> None:
    first, second = (draw(ALL, tmp_path / name) for name in ("first", "second"))
    for (one, _), (other, _) in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_plot_without_rows_goes(tmp_path: Path) -> None:
    draw(ALL, tmp_path)
    assert draw({"pong": RATES}, tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("colour", [*COLOURS, GREY])
@pytest.mark.parametrize("page", ["#ffffff", "#0d1117"])
def test_colours_stand_out_on_light_and_dark_pages(colour: str, page: str) -> None:
    """WCAG 2.1, 1.4.11: graphics need a contrast of 3."""

    def luminance(text: str) -> float:
        parts = [int(text[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(colour), luminance(page)))
    assert (lighter + 0.05) / (darker + 0.05) >= 3


def test_what_one_benchmark_loses_the_others_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    class Good:
        @staticmethod
        def run() -> Results:
            report.progress("measuring")
            return RATES

    class Bad:
        @staticmethod
        def run() -> Results:
            raise RuntimeError("the relay ended")

    modules = {"benchmarks.pong": Good, "benchmarks.setup": Bad}
    monkeypatch.setattr(program, "import_module", modules.__getitem__)
    with Console().capture():
        results, failures = program.run_all(["setup", "pong"], Console(quiet=True))
    assert results == {"pong": RATES}
    lines = list(program.markdown(results, failures, [(Path("a/pongs.svg"), "Pongs")]))
    assert "Failed: RuntimeError: the relay ended" in lines
    assert "![Pongs](plots/pongs.svg)" in lines
    assert table(RATES) in lines

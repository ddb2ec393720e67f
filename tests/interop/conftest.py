"""The lab's folder for each test, and its logs beside a failure."""

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.interop.results import Results

TAIL_LINES = 25

_RESULTS = Results()


@pytest.fixture
def results() -> Results:
    """Where the channel tests put what they saw; shown at the end of the run."""
    return _RESULTS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines := _RESULTS.lines():
        terminalreporter.section("channels with real peers")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """The folder that a test's nodes live in; its ``*.log`` are shown when the test fails."""
    return tmp_path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    folder = getattr(item, "funcargs", {}).get("lab")
    if report.failed and folder is not None:
        for log in sorted(folder.glob("*.log")):
            tail = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
            report.sections.append((f"end of {log}", "\n".join(tail)))
    return report

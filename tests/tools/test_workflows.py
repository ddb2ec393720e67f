"""What builds and publishes a release is fixed: a tag may be moved to other code, a commit not."""

import re
from collections.abc import Iterator

import pytest

from tools.wheel import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
#: A commit, and for people which release or branch it was.
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}  # (v\d+\.\d+\.\d+|\w+, \d{4}-\d\d-\d\d)")


def used() -> Iterator[tuple[str, str]]:
    """The actions of others, each with the file that uses it."""
    for file in WORKFLOWS:
        for found in re.finditer(r"^\s*(?:-\s+)?uses:\s*(.*)$", file.read_text(), re.MULTILINE):
            if not found[1].startswith("./"):
                yield file.name, found[1]


@pytest.mark.parametrize(("file", "action"), list(used()))
def test_every_action_is_named_by_its_commit(file: str, action: str) -> None:
    assert PINNED.fullmatch(action), file


def test_the_workflows_that_there_are_were_read() -> None:
    assert {file for file, _ in used()} == {"ci.yml", "release.yml"}


def test_one_action_has_one_commit() -> None:
    commits = {tuple(action.split("@")) for _, action in used()}
    assert len(commits) == len({name for name, _ in commits})


def test_what_builds_the_wheels_is_one_version() -> None:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    runs = re.findall(r"pipx run '([^']*)'", text)
    assert runs
    assert all(re.fullmatch(r"[\w-]+==\d+(\.\d+)+", run) for run in runs)

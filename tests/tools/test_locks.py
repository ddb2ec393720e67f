"""The locks hold by hash what pyproject.toml asks for, and nothing of who made them."""

import re
import tomllib
from collections.abc import Iterator
from itertools import chain

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.wheel import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
GROUPS = PROJECT["dependency-groups"]
#: What each lock is for.
WANTED = {
    "build": [*GROUPS["build"], *PROJECT["build-system"]["requires"]],
    "test": [*PROJECT["project"]["dependencies"], *EXTRAS["test"]],
    "dev": [
        *PROJECT["project"]["dependencies"],
        *chain.from_iterable(EXTRAS.values()),
        *chain.from_iterable(GROUPS.values()),
    ],
}


def entries(lock: str) -> Iterator[list[str]]:
    """What pip reads as one requirement each: the pin, then its hashes."""
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for entry in re.split(r"\n(?=\S)", "\n".join(lines)):
        yield [part.strip() for part in entry.split("\\\n")]


def pins(lock: str) -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for pin, *_ in entries(lock):
        requirement = Requirement(pin)
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


@pytest.mark.parametrize("lock", WANTED)
def test_all_that_is_asked_for_is_there(lock: str) -> None:
    """Who changes pyproject.toml runs `make lock`."""
    locked = pins(lock)
    for text in WANTED[lock]:
        wanted = Requirement(text)
        name = canonicalize_name(wanted.name)
        if name == canonicalize_name(PROJECT["project"]["name"]):
            continue
        assert name in locked, text
        for pin in locked[name]:
            (specifier,) = pin.specifier
            assert specifier.operator == "=="
            assert wanted.specifier.contains(specifier.version, prereleases=True), (text, str(pin))


@pytest.mark.parametrize("lock", WANTED)
def test_everything_has_hashes_and_nothing_else_stands_there(lock: str) -> None:
    for pin, *hashes in entries(lock):
        assert re.fullmatch(r"[a-z0-9.-]+==[a-z0-9.+-]+(?: ; [^\\]+)?", pin), pin
        assert hashes
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), pin


@pytest.mark.parametrize("lock", WANTED)
def test_no_address_and_no_path(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    assert not re.search(r"://|--index|--find-links|--trusted|(?<![\w.])/\w", text)


@pytest.mark.parametrize("lock", ["build", "test"])
def test_one_release_of_each_package(lock: str) -> None:
    everything = pins("dev")
    for name, found in pins(lock).items():
        assert {str(pin.specifier) for pin in found} <= {
            str(pin.specifier) for pin in everything[name]
        }

"""What the relay keeps is for its own user: URLs that wake wallets, and its own key."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from lightning_proxy.relay import RelaySettings
from lightning_proxy.relay.store import Database, StoreError
from lightning_proxy.relay.wake.identity import Identity
from tests.support.relay import relay


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


@pytest.fixture(autouse=True, params=[0o022, 0o000, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One that everybody may look into."""
    tmp_path.chmod(0o755)
    return tmp_path


def files_of(folder: Path) -> dict[str, int]:
    return {file.name: mode(file) for file in folder.iterdir() if file.is_file()}


async def test_in_a_folder_that_is_everybodys(folder: Path) -> None:
    async with Database(str(folder / "relay.sqlite")) as database:
        async with database.transaction() as connection:
            await connection.exec_driver_sql("UPDATE runs SET started = 1")
        there = files_of(folder)
        assert {"relay.sqlite", "relay.sqlite-wal"} <= set(there)
        assert set(there.values()) == {0o600}


async def test_what_is_there_is_tightened_and_the_operator_told(tmp_path: Path) -> None:
    file = tmp_path / "relay.sqlite"
    async with Database(str(file)):
        pass
    beside = [tmp_path / f"relay.sqlite{end}" for end in ("-wal", "-shm")]
    for each in (file, *beside):
        each.touch()
        each.chmod(0o644)
    with capture_logs() as logs:
        async with Database(str(file)) as again:
            assert again.run == 2
            assert set(files_of(tmp_path).values()) == {0o600}
    assert [log["event"] for log in logs] == ["file_made_private"] * 3
    assert {log["file"] for log in logs} == {str(each) for each in (file, *beside)}
    assert {log["mode"] for log in logs} == {"0644"}
    with capture_logs() as logs:
        async with Database(str(file)):
            pass
    assert logs == []


async def test_what_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "relay.sqlite").symlink_to(tmp_path / "elsewhere.sqlite")
    async with Database(str(tmp_path / "relay.sqlite")):
        assert mode(tmp_path / "elsewhere.sqlite") == 0o600


async def test_a_file_system_without_modes_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "relay.sqlite"
    file.touch()
    file.chmod(0o640)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    with capture_logs() as logs:
        async with Database(str(file)):
            pass
    assert [(log["event"], log["reason"]) for log in logs] == [
        ("file_not_private", "Operation not permitted")
    ]


async def test_what_is_no_file_is_left_alone(folder: Path) -> None:
    with pytest.raises(StoreError):
        await Database(str(folder)).__aenter__()
    assert mode(folder) == 0o755


def test_the_relays_own_key_too(tmp_path: Path) -> None:
    file = tmp_path / "relay.key"
    before = Identity.open(file).node_id
    assert mode(file) == 0o600
    file.chmod(0o644)
    with capture_logs() as logs:
        assert Identity.open(file).node_id == before
    assert mode(file) == 0o600
    assert [log["event"] for log in logs] == ["file_made_private"]


async def test_a_whole_relay(folder: Path) -> None:
    """Whatever it makes in a folder that was there."""
    store = str(folder / "relay.sqlite")
    wake = RelaySettings().wake
    async with relay(store=store, wake=type(wake)(identity=str(folder / "relay.key"))):
        assert set(files_of(folder).values()) == {0o600}

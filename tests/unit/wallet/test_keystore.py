import json
import stat
from pathlib import Path
from typing import Any

import pytest

from lightning_proxy.wallet import keystore
from lightning_proxy.wallet.errors import KeystoreError, WrongPassphrase
from lightning_proxy.wallet.keys import WalletKeys
from tests.unit.wallet.samples import SEED

COST = 10  # the least: tests need no protection from guessing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "wallet.json"
    keystore.create(path, WalletKeys(SEED), "correct horse", cost=COST)
    return path


def edit(path: Path, **changes: Any) -> None:
    file = json.loads(path.read_text())
    for name, value in changes.items():
        (file if name in file else file["header"])[name] = value
    path.write_text(json.dumps(file))


def test_keys_come_back(path: Path) -> None:
    keys = keystore.load(path, "correct horse")
    assert list(keys.private_keys([0])) == list(WalletKeys(SEED).private_keys([0]))
    assert keystore.read_node_id(path) == keys.node_id


def test_only_the_owner_may_read_it_and_nothing_else_is_left(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_no_secret_stands_in_the_file(path: Path) -> None:
    data = path.read_bytes()
    for _, secret in WalletKeys(SEED).private_keys([0]):
        assert secret not in data
        assert secret.hex().encode() not in data


def test_two_files_of_one_seed_differ(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    keystore.create(other, WalletKeys(SEED), "correct horse", cost=COST)
    first, second = (json.loads(file.read_text()) for file in (path, other))
    assert first["ciphertext"] != second["ciphertext"]
    assert first["header"]["salt"] != second["header"]["salt"]
    assert first["header"]["nonce"] != second["header"]["nonce"]


def test_a_wrong_passphrase_is_told(path: Path) -> None:
    with pytest.raises(WrongPassphrase, match="does not open"):
        keystore.load(path, "correct house")


def test_a_passphrase_is_one_however_it_was_typed(tmp_path: Path) -> None:
    path = tmp_path / "wallet.json"
    keystore.create(path, WalletKeys(SEED), "caf\u00e9", cost=COST)
    assert keystore.load(path, "cafe\u0301").node_id == WalletKeys(SEED).node_id


def test_an_empty_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeystoreError, match="empty"):
        keystore.create(tmp_path / "wallet.json", WalletKeys(SEED), "", cost=COST)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(KeystoreError, match="exists already"):
        keystore.create(path, WalletKeys(bytes(32)), "another", cost=COST)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "changes",
    [
        {"node_id": "02" + "ab" * 32},
        {"scrypt_cost": 11},
        {"salt": "00" * 32},
        {"nonce": "00" * 24},
        {"ciphertext": "00" * 48},
    ],
)
def test_every_changed_field_is_noticed(path: Path, changes: dict[str, Any]) -> None:
    edit(path, **changes)
    with pytest.raises(WrongPassphrase, match="was changed"):
        keystore.load(path, "correct horse")


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"scrypt_cost": 19},  # 512 MiB
        {"scrypt_cost": 2**40},
        {"scrypt_cost": 9},
        {"salt": "00"},
        {"nonce": "0" * 47 + "\n"},
        {"ciphertext": "00" * 47},
        {"ciphertext": "0" * 95 + "\n"},
        {"ciphertext": "zz" * 48},
        {"header": {}},
        {"header": None},
    ],
)
def test_a_damaged_file_is_told_before_any_work(path: Path, changes: dict[str, Any]) -> None:
    edit(path, **changes)
    with pytest.raises(KeystoreError, match="is damaged, or no wallet of this version"):
        keystore.load(path, "correct horse")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 4000, b"null"])
def test_what_is_no_wallet_is_told(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "wallet.json"
    path.write_bytes(data)
    with pytest.raises(KeystoreError, match="is damaged, or no wallet of this version"):
        keystore.load(path, "correct horse")


def test_a_long_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "wallet.json"
    path.write_bytes(b" " * 4097)
    with pytest.raises(KeystoreError, match="too long"):
        keystore.load(path, "correct horse")


def test_missing_and_unusable_places_are_told(tmp_path: Path) -> None:
    with pytest.raises(KeystoreError, match="create one first"):
        keystore.load(tmp_path / "none.json", "correct horse")
    with pytest.raises(KeystoreError, match="can't be read"):
        keystore.load(tmp_path, "correct horse")
    with pytest.raises(KeystoreError, match="can't be written"):
        keystore.create(tmp_path / "no" / "wallet.json", WalletKeys(SEED), "x", cost=COST)

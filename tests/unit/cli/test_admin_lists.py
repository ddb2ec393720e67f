"""The operator's lists on a screen of 80 columns: every id whole, and no line longer."""

from io import StringIO
from types import ModuleType

import pytest
from msgspec import Struct
from rich.console import Console

from lightning_proxy import tables
from lightning_proxy.api.admin_rows import DelegationRow, SessionRow, WalletRow
from lightning_proxy.cli import delegations, sessions, wallets
from lightning_proxy.rpc import SessionInfo, SessionState

WIDTH = 80
KEY, PEER = "02" + "ab" * 32, "03" + "cd" * 32
ID, CHANNEL = "ef" * 16, "01" * 32


@pytest.mark.parametrize(
    ("module", "row", "whole"),
    [
        (
            sessions,
            SessionRow(
                KEY,
                SessionInfo(
                    session_id=ID,
                    peer=f"{PEER}@[2001:db8::1]:9735",
                    state=SessionState.READY,
                    created=0.0,
                ),
            ),
            {ID, KEY, PEER, "[2001:db8::1]:9735"},
        ),
        (
            wallets,
            WalletRow(
                node_id=KEY,
                sockets=1,
                sessions=100,
                open_delegations=4,
                queued_bytes=1 << 20,
                wake_targets=8,
                free_slots=100,
                devices=16,
            ),
            {KEY},
        ),
        (
            delegations,
            DelegationRow(
                id=ID,
                wallet=KEY,
                session_id=ID,
                peer=PEER,
                channel_id=CHANNEL,
                kind="funding_transaction",
                created=0.0,
                remaining=12.0,
            ),
            {ID, KEY, PEER, CHANNEL},
        ),
    ],
)
def test_lists_fit_80_columns(module: ModuleType, row: Struct, whole: set[str]) -> None:
    out = StringIO()
    tables.show(Console(file=out, width=WIDTH), module.COLUMNS, [module.row(row)])
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert whole <= set(out.getvalue().split())

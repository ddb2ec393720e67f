"""Which of PostgreSQL's errors another connection may mend."""

import pytest
from asyncpg import TargetServerAttributeNotMatched
from sqlalchemy.exc import DBAPIError, IntegrityError

from lightning_proxy.relay.store.database import _is_away


class Refusal(Exception):
    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("no")
        self.sqlstate = sqlstate


def wrapped(sqlstate: str | None, cause: Exception | None = None) -> DBAPIError:
    refusal = Refusal(sqlstate)
    refusal.__cause__ = cause
    return DBAPIError("INSERT", None, refusal)


@pytest.mark.parametrize(
    "error",
    [
        wrapped("25006"),  # read-only: a former primary
        wrapped("57P01"),  # shut down by its operator
        wrapped("57P03"),  # starting
        wrapped("53300"),  # too many connections
        wrapped("08006"),
        wrapped(None, ConnectionResetError()),
        wrapped(None, TargetServerAttributeNotMatched("read-write")),  # all are standbys
        TimeoutError(),
        ConnectionRefusedError(),
    ],
)
def test_the_server_is_away(error: Exception) -> None:
    assert _is_away(error)


@pytest.mark.parametrize(
    "error",
    [
        wrapped("28P01"),  # a wrong password
        wrapped("3D000"),  # no such database
        wrapped("53100"),  # a full disk
        wrapped("40001"),  # a conflict between transactions, which is no fault of the server's
        wrapped("40P01"),
        IntegrityError("INSERT", None, Refusal("23505")),
        ValueError("ours"),
    ],
)
def test_the_server_is_there(error: Exception) -> None:
    assert not _is_away(error)

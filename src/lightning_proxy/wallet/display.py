"""What `lightning-proxy wallet` says: sentences for people, or JSON lines for programs."""

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_proxy.bolt.features import Features
from lightning_proxy.bolt.messages import to_dict
from lightning_proxy.rpc import Rejected, SessionInfo, Voided
from lightning_proxy.wallet import (
    Answered,
    ChannelKeysRequest,
    DelegationReceived,
    Disconnected,
    Event,
    MessageReceived,
    Reconnected,
    Refused,
    RelayError,
    Session,
    SessionClosed,
)
from lightning_proxy.wallet.record import Answer


class Output:
    """Results go to stdout, errors and hints to stderr.

    Relays and peers are strangers: what they say is shown without what a terminal would obey.
    """

    def __init__(self, json: bool) -> None:
        self._json = json
        self._out = Console(highlight=False, soft_wrap=True)
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)

    def result(self, value: dict[str, Any], sentence: str) -> None:
        """One thing that happened."""
        if self._json:
            self._write(value)
        else:
            self._out.print(_text(sentence))

    def hint(self, sentence: str) -> None:
        """What the user may do better."""
        self._err.print(_text(sentence))

    def error(self, error: Exception) -> None:
        """Why the command failed."""
        if self._json:
            code = error.code if isinstance(error, RelayError) else type(error).__name__
            text = msgspec.json.encode({"error": {"code": code, "sentence": str(error)}}).decode()
            print(text, file=sys.stderr, flush=True)
        else:
            self._err.print(Text("Error: ", style="bold red") + _text(str(error)))

    def wallet(self, node_id: bytes, file: Path, channels: int, latest: Iterable[Answer]) -> None:
        """A wallet and its record."""
        if self._json:
            self._write(
                {
                    "node_id": node_id.hex(),
                    "file": str(file),
                    "channels_accepted": channels,
                    "answers": [_answer(answer) for answer in latest],
                }
            )
            return
        self._out.print(_text(f"Node id            {node_id.hex()}"))
        self._out.print(_text(f"File               {file}"))
        self._out.print(_text(f"Channels accepted  {channels}"))
        table = Table("when", "peer", "answer")
        for answer in latest:
            outcome = (
                f"accepted as channel {answer.channel_index}"
                if answer.refusal is None
                else f"refused: {answer.refusal}"
            )
            table.add_row(_time(answer.created), _short(answer.peer.hex()), _text(outcome))
        if table.row_count:
            self._out.print(table)

    def sessions(self, sessions: list[SessionInfo]) -> None:
        """The wallet's sessions at a relay."""
        if self._json:
            for session in sessions:
                self._write(msgspec.to_builtins(session))
            return
        if not sessions:
            self._out.print("No sessions.")
            return
        table = Table("session", "peer", "state", "since", "messages", "open questions")
        for session in sessions:
            table.add_row(
                session.session_id,
                _text(session.peer),
                session.state.value,
                _time(session.created),
                f"{session.messages_received} in, {session.messages_sent} out",
                str(session.open_delegations),
            )
        self._out.print(table)

    def connected(self, session: Session) -> None:
        """A session that is ready."""
        features = b"" if session.peer_init is None else session.peer_init.features
        self.result(
            {
                "event": "connected",
                "session_id": session.id,
                "peer": str(session.peer),
                "features": features.hex(),
            },
            f"Connected to {session.peer} as session {session.id}.\n"
            f"The peer's features: {Features.from_bytes(features)}.",
        )

    def watching(self, node_id: bytes, relay: str) -> None:
        """The wallet is at its relay."""
        self.result(
            {"event": "watching", "node_id": node_id.hex(), "relay": relay},
            f"Node {node_id.hex()} is at {relay}. Ctrl-C ends this; sessions stay at the relay.",
        )

    def question(self, number: int, request: ChannelKeysRequest) -> None:
        """The owner is asked."""
        self.result(
            {"event": "question", "number": number, "delegation_id": request.delegation_id},
            f'[{number}] Accept this channel? Write "y {number}" or "n {number}".',
        )

    def event(self, event: Event) -> None:
        """Something that happened to the wallet."""
        self.result(*_describe(event))

    def _write(self, value: dict[str, Any]) -> None:
        print(msgspec.json.encode(value).decode(), flush=True)


def _describe(event: Event) -> tuple[dict[str, Any], str]:
    """An event as JSON, and in words."""
    value: dict[str, Any]
    match event:
        case DelegationReceived(request):
            value, sentence = _request(request)
        case Answered(request, answer):
            value = {
                "event": "answered",
                "delegation_id": request.delegation_id,
                "answer": msgspec.to_builtins(answer),
            }
            sentence = f"Accepted the channel of {_short(request.peer.hex())}."
        case Refused(delegation_id, reason):
            value = {"event": "refused", "delegation_id": delegation_id, "reason": reason}
            sentence = f"Refused: {reason}."
        case Voided(id=delegation_id, reason=reason):
            value = {"event": "voided", "delegation_id": delegation_id, "reason": reason}
            sentence = f"No answer is needed any more: {reason}."
        case Rejected(id=delegation_id, code=code, reason=reason):
            value = {"event": "rejected", "delegation_id": delegation_id, "code": code}
            value["reason"] = reason
            sentence = f"The relay did not take the answer: {reason}"
        case SessionClosed(session_id, reason):
            value = {"event": "session_closed", "session_id": session_id, "reason": reason}
            sentence = f"Session {session_id} is over: {reason}."
        case MessageReceived(session_id, received):
            value = {
                "event": "message",
                "session_id": session_id,
                "sequence": received.sequence,
                "raw": received.raw.hex(),
                "message": None if received.message is None else to_dict(received.message),
            }
            size = len(received.raw)
            sentence = f"Session {session_id}: the peer sent {received.name} ({size} bytes)."
        case Disconnected(reason):
            value = {"event": "disconnected", "reason": reason}
            sentence = f"The relay is gone: {reason}. Trying again."
        case Reconnected():
            value = {"event": "reconnected"}
            sentence = "The relay is there again."
    return value, sentence


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "delegation_id": answer.delegation_id,
        "peer": answer.peer.hex(),
        "created": answer.created,
        "channel_index": answer.channel_index,
        "refusal": answer.refusal,
    }


def _request(request: ChannelKeysRequest) -> tuple[dict[str, Any], str]:
    wanted = request.open_channel
    visibility = "public" if request.is_public else "private"
    # BOLT #3: feerates count units of weight, of which four are a virtual byte.
    sat_per_vbyte = wanted.feerate_per_kw * 4 / 1000
    channel_type = (
        "none named"
        if wanted.channel_type is None
        else str(Features.from_bytes(wanted.channel_type))
    )
    value = {
        "event": "delegation",
        "delegation_id": request.delegation_id,
        "session_id": request.session_id,
        "peer": request.peer.hex(),
        "deadline": request.deadline,
        "open_channel": to_dict(wanted),
    }
    lines = (
        f"Node {request.peer.hex()} wants to open a {visibility} channel on {request.chain}:",
        f"  amount   {wanted.funding_satoshis:,} sat",
        f"  pushes   {wanted.push_msat // 1000:,}.{wanted.push_msat % 1000:03} sat to this wallet",
        f"  type     {channel_type}",
        f"  feerate  {wanted.feerate_per_kw} sat/kw ({sat_per_vbyte:.1f} sat/vB)",
        f"  answer before {_time(request.deadline)}",
    )
    return value, "\n".join(lines)


def _text(text: str) -> Text:
    return Text("".join(char if char.isprintable() or char == "\n" else "?" for char in text))


def _short(node_id: str) -> str:
    return f"{node_id[:10]}…{node_id[-6:]}"


def _time(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, OSError, ValueError):
        return "at no time"

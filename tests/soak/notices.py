"""What a wallet was told, and whether it was told so rightly: each thing once, in order, whole."""

from dataclasses import dataclass
from typing import Any

from tests.soak.ledger import FROM_PEER, Ledger, Said, number_of, numbered


@dataclass
class Held:
    """A session as its wallet knows it; `position` is that of the notice of its end."""

    session_id: str
    #: The result of `handshake` arrived: from then on its end has to be told.
    is_established: bool = False
    delivered: int = 0
    ended: int = 0


class Notices:
    """One wallet's. `take` gets each notification, in the order in which it came."""

    def __init__(self, ledger: Ledger) -> None:
        self.sessions: dict[str, Held] = {}
        #: The highest position that came, and the one whose acknowledgement's result arrived.
        self.position = 0
        self.acknowledged = 0
        self._ledger = ledger
        #: What came and is not acknowledged yet, by position.
        self._kept: dict[int, dict[str, Any]] = {}
        #: Where things came that must not be told twice: once acknowledged, never again.
        self._once: dict[tuple[str, str], int] = {}
        self._last_on_link = 0

    def connected(self) -> None:
        """A new connection: what is not acknowledged comes again."""
        self._last_on_link = 0

    def acknowledge(self, position: int) -> None:
        """The result of that request arrived."""
        self._ledger.tally.acknowledged += max(0, len([p for p in self._kept if p <= position]))
        self.acknowledged = max(self.acknowledged, position)
        self._kept = {at: body for at, body in self._kept.items() if at > position}

    def take(self, body: dict[str, Any]) -> bool:
        """Whether it is news."""
        position: int = body["params"]["position"]
        if position <= self._last_on_link:
            self._ledger.reordered(f"position {position} after {self._last_on_link}")
        self._last_on_link = position
        if position <= self.acknowledged:
            self._ledger.doubled(f"{body['method']} at {position}, which was acknowledged")
            return False
        if position <= self.position:
            if self._kept.get(position) != body:
                self._ledger.wrong(f"{body['method']} at {position} is not what it was")
            self._ledger.tally.delivered_again += 1
            return False
        self.position = position
        self._kept[position] = body
        self._news(body["method"], body["params"])
        return True

    def _news(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "message":
                self._message(params["session_id"], params)
            case "closed" | "session_lost":
                self._once_only("the end of session", params["session_id"], params["position"])
                self._ended(params["session_id"], params["position"])
            case "voided":
                self._once_only("voided", params["id"], params["position"])
            case "slot_used":
                self._once_only("slot_used", params["slot_id"], params["position"])
            case _:
                self._ledger.wrong(f"an unknown notification {method}")

    def _once_only(self, what: str, id_: str, position: int) -> None:
        """Twice is right where the relay was killed before the first was acknowledged."""
        before = self._once.setdefault((what, id_), position)
        if before != position and before <= self.acknowledged:
            self._ledger.doubled(f"{what} {id_}, which was acknowledged at {before}")

    def _message(self, session_id: str, params: dict[str, Any]) -> None:
        what = f"messages of {session_id}"
        held = self._session(session_id)
        raw = bytes.fromhex(params["message"])
        if raw[:2] != FROM_PEER:
            if raw not in self._ledger.passed_on:
                self._ledger.wrong(f"{what}: {raw[:100].hex()} was never sent")
            return
        number = number_of(raw)
        if raw != numbered(FROM_PEER, session_id, number):
            self._ledger.wrong(f"{what}: {number} is not what was sent")
        if params["sequence"] != number + 1:
            self._ledger.wrong(f"{what}: {number} has the sequence {params['sequence']}")
        if number != held.delivered:
            self._ledger.out_of_place(what, number, held.delivered)
        if held.ended:
            self._ledger.reordered(f"{what}: {number} came after the end")
        held.delivered = number + 1
        self._ledger.tally.delivered += 1

    def _ended(self, session_id: str, position: int) -> None:
        held = self._session(session_id)
        if held.ended:
            return
        held.ended = position
        self._ledger.tally.sessions_reported += 1
        said = self._ledger.said.get(session_id, Said())
        if held.delivered < said.stored:
            self._ledger.lost(
                f"{session_id} ended after {held.delivered} messages; {said.stored} were stored",
                said.stored - held.delivered,
            )
        if held.delivered > said.sent:
            self._ledger.wrong(f"{session_id} had {held.delivered} messages of {said.sent}")

    def _session(self, session_id: str) -> Held:
        held = self.sessions.get(session_id)
        if held is None:
            self._ledger.wrong(f"a session {session_id} that is not this wallet's")
            held = self.sessions[session_id] = Held(session_id)
        return held

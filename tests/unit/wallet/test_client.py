import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import msgspec
import pytest
from structlog.testing import capture_logs

from lightning_proxy.bolt.messages import Init, Ping
from lightning_proxy.bolt.messages import Warning as WarningMessage
from lightning_proxy.rpc import ChannelKeys, ErrorCode, Rejected, SessionLost, SlotUsed, Voided
from lightning_proxy.wallet import (
    Answered,
    Backoff,
    ChannelKeysRequest,
    ConnectionLost,
    DelegationReceived,
    Disconnected,
    Event,
    HandshakeFailed,
    MessageReceived,
    OriginMismatch,
    Reconnected,
    Refusal,
    Refused,
    RelayError,
    RelayMisbehaved,
    SessionClosed,
    Wallet,
    WalletKeys,
)
from tests.unit.wallet.samples import (
    PEER,
    PEER_ADDRESS,
    PEER_INIT,
    SEED,
    SESSION_ID,
    delegate,
    open_channel,
    session_info,
)
from tests.unit.wallet.scripted_relay import INBOX, RelaySocket, ScriptedRelay

KEYS = WalletKeys(SEED)
ANSWER = ChannelKeys(
    **dict.fromkeys(
        (
            "funding_pubkey",
            "revocation_basepoint",
            "payment_basepoint",
            "delayed_payment_basepoint",
            "htlc_basepoint",
            "first_per_commitment_point",
        ),
        PEER.hex(),
    ),
    dust_limit_sat=354,
    max_htlc_value_in_flight_msat=1,
    channel_reserve_sat=354,
    htlc_minimum_msat=1,
    minimum_depth=1,
    to_self_delay=144,
    max_accepted_htlcs=483,
)
BACKOFF = Backoff(first=0.001, most=0.01)

E = TypeVar("E")


class ScriptedSigner:
    """Answers as the test says; each question is in `asked`."""

    def __init__(self) -> None:
        self.asked: list[ChannelKeysRequest] = []
        self.outcome: ChannelKeys | Exception = ANSWER
        self.gate = asyncio.Event()
        self.gate.set()

    async def channel_keys(self, request: ChannelKeysRequest) -> ChannelKeys:
        self.asked.append(request)
        await self.gate.wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Joined:
    """A wallet at a scripted relay."""

    def __init__(self, wallet: Wallet, relay: ScriptedRelay, socket: RelaySocket) -> None:
        self.wallet, self.relay, self.socket = wallet, relay, socket
        self.events: list[Event] = []

    async def ask(self, number: int = 1, **changes: Any) -> None:
        envelope = msgspec.to_builtins(delegate(number, **changes))
        await self.socket.say(id=envelope["id"], method="delegate", params=envelope)

    async def until(self, kind: type[E]) -> E:
        """The next event of this kind; what came before is in `events`."""

        async def look() -> E:
            async for event in self.wallet.events():
                self.events.append(event)
                if isinstance(event, kind):
                    return event
            raise AssertionError("the events ended")

        return await asyncio.wait_for(look(), 10)

    async def reconnected(
        self, sessions: list[dict[str, Any]] | None = None, inbox: str = INBOX
    ) -> None:
        """Let the wallet in again, and give it the list of sessions that it then asks for."""
        self.socket = await self.relay.let_in(sessions, inbox)
        request_id, _ = await self.socket.hear_request("sessions")
        await self.socket.say(id=request_id, result=sessions or [])


@contextlib.asynccontextmanager
async def joined(
    relay: ScriptedRelay, sessions: list[dict[str, Any]] | None = None, **options: Any
) -> AsyncIterator[Joined]:
    wallet = Wallet(relay.url, KEYS, **{"backoff": BACKOFF, **options})
    welcome = asyncio.create_task(relay.let_in(sessions))
    async with wallet:
        yield Joined(wallet, relay, await welcome)


# ---- coming in ----


async def test_a_wallet_signs_for_the_relay_that_it_dialled(relay: ScriptedRelay) -> None:
    async with joined(relay, token="a-token") as at:
        assert at.socket.headers["Authorization"] == "Bearer a-token"
        assert at.wallet.settings is not None
        assert at.wallet.settings.max_sessions == 10
        leaving = asyncio.create_task(at.socket.hear_close())
    assert await leaving == 1000


async def test_a_websocket_url_is_the_same_relay(relay: ScriptedRelay) -> None:
    async def welcome() -> None:
        socket = await relay.let_in()
        await socket.hear_close()

    welcoming = asyncio.create_task(welcome())
    async with Wallet(relay.url.replace("http", "ws") + "/", KEYS):
        pass
    await welcoming


async def test_a_wallet_never_signs_for_another_relay(relay: ScriptedRelay) -> None:
    frames: list[tuple[str, str]] = []

    async def lie() -> int | None:
        socket = await relay.accept()
        await socket.challenge("https://relay.example")
        return await socket.hear_close()

    lying = asyncio.create_task(lie())
    with pytest.raises(OriginMismatch) as raised:
        await Wallet(relay.url, KEYS, on_frame=lambda *frame: frames.append(frame)).__aenter__()
    assert (raised.value.told, raised.value.dialled) == ("https://relay.example", relay.origin)
    assert await lying == 1008
    assert [direction for direction, _ in frames] == ["received"]


async def test_a_wallet_that_learns_later_of_a_lie_signs_nothing_and_says_so(
    relay: ScriptedRelay,
) -> None:
    """Somebody stands in the relay's place for now: that is no word of the relay's."""
    async with joined(relay) as at:
        await at.socket.drop()
        socket = await relay.accept()
        await socket.challenge("https://relay.example")
        assert await socket.hear_close() == 1008
        await at.until(Disconnected)
        assert "relay.example" in (await at.until(Disconnected)).reason
        at.socket = await relay.let_in()
        await at.until(Reconnected)


@pytest.mark.parametrize(
    "frame",
    [
        {"method": "delegate", "params": {}},
        {"method": "challenge", "params": {"challenge": "00", "origin": "x"}},
        {"method": "challenge"},
        {"id": None, "result": 1},
    ],
)
async def test_a_relay_that_begins_wrong_is_told_of(
    relay: ScriptedRelay, frame: dict[str, Any]
) -> None:
    async def begin_wrong() -> None:
        socket = await relay.accept()
        await socket.say(**frame)
        await socket.hear_close()

    beginning = asyncio.create_task(begin_wrong())
    with pytest.raises(RelayMisbehaved):
        await Wallet(relay.url, KEYS).__aenter__()
    await beginning


async def test_a_refused_signature_is_told_of(relay: ScriptedRelay) -> None:
    async def refuse() -> None:
        socket = await relay.accept()
        await socket.challenge(relay.origin)
        request_id, _ = await socket.hear_request("authenticate")
        error = {"code": -32001, "message": "Listed wallets only.", "data": {"code": "forbidden"}}
        await socket.say(id=request_id, error=error)
        await socket.hear_close()

    refusing = asyncio.create_task(refuse())
    with pytest.raises(RelayError, match="Listed wallets only") as raised:
        await Wallet(relay.url, KEYS).__aenter__()
    assert raised.value.code == "forbidden"
    await refusing


@pytest.mark.parametrize(("status", "code"), [(401, "unauthenticated"), (403, "forbidden")])
async def test_a_refused_connection_is_told_of(
    relay: ScriptedRelay, status: int, code: str
) -> None:
    relay.refuse_with = status
    with pytest.raises(RelayError) as raised:
        await Wallet(relay.url, KEYS).__aenter__()
    assert raised.value.code == code


async def test_a_relay_that_is_not_there_is_told_of(unused_tcp_port: int) -> None:
    with pytest.raises(ConnectionLost, match="can't be reached"):
        await Wallet(f"http://127.0.0.1:{unused_tcp_port}", KEYS).__aenter__()


async def test_a_relay_that_hangs_up_at_once_is_told_of(relay: ScriptedRelay) -> None:
    async def hang_up() -> None:
        await (await relay.accept()).drop()

    hanging = asyncio.create_task(hang_up())
    with pytest.raises(ConnectionLost):
        await Wallet(relay.url, KEYS).__aenter__()
    await hanging


@pytest.mark.parametrize("url", ["", "relay", "ftp://relay", "http://"])
def test_a_bad_url_is_told_before_anything_is_dialled(url: str) -> None:
    with pytest.raises(ValueError, match="no relay URL"):
        Wallet(url, KEYS)


# ---- sessions ----


async def test_connecting_to_a_peer_and_talking_to_it(relay: ScriptedRelay) -> None:
    frames: list[str] = []
    async with joined(relay, on_frame=lambda _, text: frames.append(text)) as at:
        serving = asyncio.create_task(at.socket.serve_connect(SESSION_ID))
        session = await at.wallet.connect(PEER_ADDRESS)
        await serving
        assert session.peer_init == PEER_INIT
        assert at.wallet.session(SESSION_ID) is session

        sending = asyncio.create_task(session.send(Ping(num_pong_bytes=1, ignored=b"")))
        request_id, params = await at.socket.hear_request("send")
        assert params == {"session_id": SESSION_ID, "message": "001200010000"}
        await at.socket.say(id=request_id, result={})
        await sending

        subscribing = asyncio.create_task(session.subscribe(raw=True, short_channel_ids=(7,)))
        request_id, params = await at.socket.hear_request("subscribe")
        assert params == {"session_id": SESSION_ID, "raw": True, "short_channel_ids": [7]}
        await at.socket.say(id=request_id, result=session_info(raw=True))
        await subscribing

        warning = WarningMessage(channel_id=bytes(32), data=b"careful")
        for sequence, message in enumerate((warning.encode(), b"\x12\x67odd", b"\x00\x01"), 1):
            params = {"session_id": SESSION_ID, "sequence": sequence, "message": message.hex()}
            await at.socket.say(method="message", params=params)
        closed = {"session_id": SESSION_ID, "reason": "the peer hung up"}
        await at.socket.say(method="closed", params=closed)
        received = [message async for message in session.messages()]
        assert [message.sequence for message in received] == [1, 2, 3]
        assert [message.name for message in received] == ["warning", "unknown(4711)", "warning"]
        assert [message.message for message in received] == [warning, None, None]
        assert await session.closed() == "the peer hung up"
        assert await at.until(SessionClosed) == SessionClosed(SESSION_ID, "the peer hung up")
        assert sum(isinstance(event, MessageReceived) for event in at.events) == 3
        with pytest.raises(KeyError):
            at.wallet.session(SESSION_ID)
    crossed = "".join(frames)
    for name, secret in KEYS.private_keys(range(3)):
        assert secret.hex() not in crossed, name


async def test_a_wallet_may_choose_its_init(relay: ScriptedRelay) -> None:
    async with joined(relay) as at:
        init = Init(globalfeatures=b"", features=b"\x02")
        connecting = asyncio.create_task(at.wallet.connect(PEER_ADDRESS, init))
        request_id, _ = await at.socket.hear_request("connect")
        error = {"code": -32004, "message": "Too many.", "data": {"code": "limit"}}
        await at.socket.say(id=request_id, error=error)
        with pytest.raises(RelayError, match="Too many"):
            await connecting


async def test_another_node_at_that_address_is_noticed(relay: ScriptedRelay) -> None:
    async with joined(relay) as at:
        connecting = asyncio.create_task(at.wallet.connect(PEER_ADDRESS))
        request_id, _ = await at.socket.hear_request("connect")
        act_two = (b"\x00" + KEYS.node_id + bytes(16)).hex()
        await at.socket.say(id=request_id, result={"session_id": SESSION_ID, "act_two": act_two})
        with pytest.raises(HandshakeFailed, match="ACT2_BAD_TAG"):
            await connecting
        # Nothing of the keys was handed over, and the relay may let go.
        request_id, params = await at.socket.hear_request("close")
        assert params == {"session_id": SESSION_ID}
        await at.socket.say(id=request_id, result={})


async def test_a_relay_that_answers_nonsense_is_told_of(relay: ScriptedRelay) -> None:
    async with joined(relay) as at:
        listing = asyncio.create_task(at.wallet.sessions())
        request_id, _ = await at.socket.hear_request("sessions")
        await at.socket.say(id=request_id, result={"no": "list"})
        with pytest.raises(RelayMisbehaved):
            await listing


async def test_adopting_closing_and_listing(relay: ScriptedRelay) -> None:
    async with joined(relay, sessions=[session_info("aa" * 16)]) as at:
        assert at.wallet.session("aa" * 16).peer.node_id == PEER
        adopting = asyncio.create_task(at.wallet.adopt(SESSION_ID))
        request_id, params = await at.socket.hear_request("adopt")
        assert params == {"session_id": SESSION_ID}
        await at.socket.say(id=request_id, result=session_info())
        session = await adopting
        assert session.peer_init == PEER_INIT

        closing = asyncio.create_task(session.close())
        request_id, params = await at.socket.hear_request("close")
        await at.socket.say(id=request_id, result={})
        await closing
        assert not session.is_closed

        listing = asyncio.create_task(at.wallet.sessions())
        request_id, _ = await at.socket.hear_request("sessions")
        await at.socket.say(id=request_id, result=[session_info()])
        assert [info.session_id for info in await listing] == [SESSION_ID]
    with pytest.raises(ConnectionLost, match="closed"):
        await session.closed()


async def test_answers_come_in_any_order(relay: ScriptedRelay) -> None:
    async with joined(relay) as at:
        first = asyncio.create_task(at.wallet.sessions())
        first_id, _ = await at.socket.hear_request("sessions")
        second = asyncio.create_task(at.wallet.sessions())
        second_id, _ = await at.socket.hear_request("sessions")
        await at.socket.say(id=second_id, result=[session_info()])
        await at.socket.say(id=first_id, result=[])
        assert (len(await first), len(await second)) == (0, 1)


async def test_a_response_that_comes_as_its_request_is_given_up(relay: ScriptedRelay) -> None:
    asking: list[asyncio.Task[Any]] = []

    def on_frame(direction: str, _: str) -> None:
        if direction == "received":
            # The task hears of it in the loop's next round, after the response.
            for task in asking:
                task.cancel()

    with capture_logs() as logs:
        async with joined(relay, on_frame=on_frame) as at:
            asking = [asyncio.create_task(at.wallet.sessions())]
            request_id, _ = await at.socket.hear_request("sessions")
            await at.socket.say(id=request_id, result=[])
            with pytest.raises(asyncio.CancelledError):
                await asking[0]
            assert logs == []
            asking.clear()
            # It is waited for no longer, and no second one is.
            await at.socket.say(id=request_id, result=[])
            request = asyncio.create_task(at.wallet.sessions())
            request_id, _ = await at.socket.hear_request("sessions")
            await at.socket.say(id=request_id, result=[])
            assert await request == []
    assert [line["event"] for line in logs] == ["response_to_nothing"]


async def test_a_relay_that_never_answers_is_told_of(relay: ScriptedRelay) -> None:
    async with joined(relay, request_timeout=0.05) as at:
        with pytest.raises(ConnectionLost, match="did not answer sessions in time"):
            await at.wallet.sessions()


# ---- delegations ----


async def test_a_delegation_is_answered(relay: ScriptedRelay) -> None:
    signer = ScriptedSigner()
    async with joined(relay, signer=signer) as at:
        await at.ask(1, decoded=[{"name": "open_channel", "funding_satoshis": 1}])
        frame = await at.socket.hear()
        assert frame == {"id": f"{1:032x}", "result": msgspec.to_builtins(ANSWER)}
        assert (await at.until(Answered)).answer == ANSWER
        assert isinstance(at.events[0], DelegationReceived)
        # What the relay says it decoded is not what the signer is asked.
        assert signer.asked[0].open_channel.funding_satoshis == 1_000_000


async def test_a_refusal_has_its_reason(relay: ScriptedRelay) -> None:
    signer = ScriptedSigner()
    signer.outcome = Refusal("too small")
    async with joined(relay, signer=signer) as at:
        await at.ask()
        error = (await at.socket.hear())["error"]
        assert (error["code"], error["message"]) == (ErrorCode.REFUSED.number, "too small")
        assert (await at.until(Refused)).reason == "too small"


async def test_delegations_are_handled_side_by_side(relay: ScriptedRelay) -> None:
    signer = ScriptedSigner()
    signer.gate.clear()
    async with joined(relay, signer=signer) as at:
        for number in range(5):
            await at.ask(number)
        while len(signer.asked) < 5:
            await asyncio.sleep(0.001)
        signer.gate.set()
        assert {(await at.socket.hear())["id"] for _ in range(5)} == {
            f"{number:032x}" for number in range(5)
        }


async def test_a_question_under_way_is_not_asked_twice(relay: ScriptedRelay) -> None:
    signer = ScriptedSigner()
    signer.gate.clear()
    envelope = delegate()
    async with joined(relay, signer=signer) as at:
        for _ in range(2):
            await at.socket.say(
                id=envelope.id, method="delegate", params=msgspec.to_builtins(envelope)
            )
        await at.ask(1, message=open_channel(push_msat=1))
        error = (await at.socket.hear())["error"]
        assert "under way for another question" in error["message"]
        signer.gate.set()
        assert "result" in await at.socket.hear()
        assert len(signer.asked) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"channel_id": "00" * 32}, "another channel"),
        ({"peer": KEYS.node_id.hex()}, "another peer than its session"),
    ],
)
async def test_a_contradictory_delegation_is_refused(
    relay: ScriptedRelay, changes: dict[str, Any], reason: str
) -> None:
    signer = ScriptedSigner()
    async with joined(relay, sessions=[session_info()], signer=signer) as at:
        await at.ask(1, **changes)
        error = (await at.socket.hear())["error"]
        assert error["code"] == ErrorCode.REFUSED.number
        assert reason in error["message"]
        assert signer.asked == []


async def test_an_unreadable_delegation_is_an_error_and_not_a_refusal(
    relay: ScriptedRelay,
) -> None:
    async with joined(relay, signer=ScriptedSigner()) as at:
        envelope = {**msgspec.to_builtins(delegate()), "kind": "sign_this_hash"}
        await at.socket.say(id=envelope["id"], method="delegate", params=envelope)
        frame = await at.socket.hear()
        assert (frame["id"], frame["error"]["code"]) == (
            envelope["id"],
            ErrorCode.INVALID_PARAMS.number,
        )


async def test_a_signers_bug_stays_its_own_and_shows_no_secret(relay: ScriptedRelay) -> None:
    signer = ScriptedSigner()
    signer.outcome = ValueError("the secret is 42")
    async with joined(relay, signer=signer) as at:
        with capture_logs() as logs:
            await at.ask(1)
            while not logs:
                await asyncio.sleep(0.001)
        assert [log["event"] for log in logs] == ["signer_failed"]
        assert "42" not in str(logs).replace(f"{1:032x}", "")
        signer.outcome = ANSWER
        await at.ask(2)
        assert (await at.socket.hear())["id"] == f"{2:032x}"
        # It was left open, so it may come again.
        await at.ask(1)
        assert (await at.socket.hear())["id"] == f"{1:032x}"


async def test_a_voided_question_stops_the_work(relay: ScriptedRelay) -> None:
    signer = ScriptedSigner()
    signer.gate.clear()
    async with joined(relay, signer=signer) as at:
        await at.ask(1)
        await at.until(DelegationReceived)
        await at.socket.say(
            method="voided", params={"id": f"{1:032x}", "reason": "the peer went away"}
        )
        assert await at.until(Voided) == Voided(f"{1:032x}", "the peer went away")
        signer.gate.set()
        await at.ask(2)
        assert (await at.socket.hear())["id"] == f"{2:032x}"


async def test_a_rejected_answer_is_an_event(relay: ScriptedRelay) -> None:
    async with joined(relay, signer=ScriptedSigner()) as at:
        await at.ask()
        await at.socket.hear()
        rejected = {"id": f"{1:032x}", "code": "delegation_over", "reason": "Too late."}
        await at.socket.say(method="rejected", params=rejected)
        assert await at.until(Rejected) == Rejected(**rejected)


async def test_without_a_signer_questions_stay_open(relay: ScriptedRelay) -> None:
    async with joined(relay) as at:
        await at.ask()
        await at.until(DelegationReceived)
        await at.socket.say(id=99, method="no_such_thing")
        assert (await at.socket.hear())["id"] == 99  # nothing was said before


async def test_too_many_questions_at_once_are_put_off(
    relay: ScriptedRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_proxy.wallet.delegations._MAX_UNDER_WAY", 2)
    signer = ScriptedSigner()
    signer.gate.clear()
    async with joined(relay, signer=signer) as at:
        for number in range(3):
            await at.ask(number)
        frame = await at.socket.hear()
        assert (frame["id"], frame["error"]["code"]) == (f"{2:032x}", ErrorCode.LIMIT.number)


# ---- bad frames and broken connections ----


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", ErrorCode.PARSE_ERROR),
        ("[]", ErrorCode.INVALID_REQUEST),
        ('{"jsonrpc": "1.0"}', ErrorCode.INVALID_REQUEST),
        ('{"jsonrpc": "2.0", "params": ' + "[" * 100_000, ErrorCode.PARSE_ERROR),
    ],
)
async def test_garbage_gets_an_error_and_nothing_is_lost(
    relay: ScriptedRelay, text: str, code: ErrorCode
) -> None:
    async with joined(relay, signer=ScriptedSigner()) as at:
        await at.socket.socket.send_str(text)
        frame = await at.socket.hear()
        assert (frame["id"], frame["error"]["code"]) == (None, code.number)
        await at.socket.socket.send_bytes(b"{}")
        assert (await at.socket.hear())["error"]["code"] == ErrorCode.INVALID_REQUEST.number
        await at.ask()
        assert "result" in await at.socket.hear()


@pytest.mark.parametrize(
    "frame",
    [
        {"id": None, "error": {"code": -32700, "message": "What?"}},
        {"id": 4711, "result": {}},
        {"id": "x", "result": {}},
        {"method": "closed", "params": {"session_id": "none"}},
        {"method": "news", "params": {}},
        # JSON-RPC 2.0 §4.1: without an id it is a notification, whatever it asks.
        {"method": "delegate", "params": msgspec.to_builtins(delegate(7))},
        {"method": "delegate", "params": {}},
    ],
)
async def test_what_needs_no_answer_gets_none(relay: ScriptedRelay, frame: dict[str, Any]) -> None:
    async with joined(relay, signer=ScriptedSigner()) as at:
        await at.socket.say(**frame)
        await at.ask()
        assert (await at.socket.hear())["id"] == f"{1:032x}"


async def test_a_question_by_another_id_is_an_error(relay: ScriptedRelay) -> None:
    signer = ScriptedSigner()
    async with joined(relay, signer=signer) as at:
        await at.socket.say(id=7, method="delegate", params=msgspec.to_builtins(delegate()))
        frame = await at.socket.hear()
        assert (frame["id"], frame["error"]["code"]) == (7, ErrorCode.INVALID_REQUEST.number)
        assert signer.asked == []


async def test_an_answer_that_no_relay_takes_stays_here(
    relay: ScriptedRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_proxy.wallet.connection.MAX_FRAME_TO_RELAY", 500)
    signer = ScriptedSigner()
    async with joined(relay, signer=signer) as at:
        await at.ask(1)
        while not signer.asked:
            await asyncio.sleep(0)
        signer.outcome = Refusal("no")
        await at.ask(2)
        assert (await at.socket.hear())["id"] == f"{2:032x}"
        assert len(signer.asked) == 2


async def test_an_oversized_frame_costs_the_connection_only(relay: ScriptedRelay) -> None:
    async with joined(relay) as at:
        with contextlib.suppress(ConnectionError):  # the wallet hangs up in the middle
            await at.socket.socket.send_str("x" * (4 * 1024 * 1024 + 1))
        await at.until(Disconnected)
        at.socket.over.set()
        await at.reconnected()
        await at.until(Reconnected)


async def test_a_broken_connection_fails_what_is_under_way_and_is_made_again(
    relay: ScriptedRelay,
) -> None:
    async with joined(relay) as at:
        listing = asyncio.create_task(at.wallet.sessions())
        await at.socket.hear_request("sessions")
        await at.socket.drop()
        with pytest.raises(ConnectionLost):
            await listing
        await at.until(Disconnected)
        # Asked meanwhile, it waits.
        adopting = asyncio.create_task(at.wallet.adopt(SESSION_ID))
        at.socket = await relay.let_in()
        answers: dict[str, Any] = {"adopt": session_info(), "sessions": []}
        while answers:
            frame = await at.socket.hear()
            await at.socket.say(id=frame["id"], result=answers.pop(frame["method"]))
        assert (await adopting).id == SESSION_ID
        await at.until(Reconnected)


async def test_an_answer_that_was_ready_too_late_is_given_when_asked_again(
    relay: ScriptedRelay,
) -> None:
    signer = ScriptedSigner()
    signer.gate.clear()
    async with joined(relay, signer=signer) as at:
        await at.ask(1)
        await at.until(DelegationReceived)
        await at.socket.drop()
        await at.until(Disconnected)
        with capture_logs() as logs:
            signer.gate.set()
            while not any(log["event"] == "answer_not_sent" for log in logs):
                await asyncio.sleep(0.001)
        await at.reconnected()
        await at.ask(1)
        assert (await at.socket.hear())["result"] == msgspec.to_builtins(ANSWER)


async def test_a_question_that_outlives_a_connection_is_answered_on_the_next(
    relay: ScriptedRelay,
) -> None:
    signer = ScriptedSigner()
    signer.gate.clear()
    envelope = msgspec.to_builtins(delegate())
    async with joined(relay, signer=signer) as at:
        await at.socket.say(id=envelope["id"], method="delegate", params=envelope)
        await at.until(DelegationReceived)
        await at.socket.drop()
        await at.reconnected()
        await at.socket.say(id=envelope["id"], method="delegate", params=envelope)
        signer.gate.set()
        assert (await at.socket.hear())["id"] == envelope["id"]
        assert len(signer.asked) == 1


async def test_sessions_that_ended_meanwhile_are_over(relay: ScriptedRelay) -> None:
    ids = ["aa" * 16, "bb" * 16, "cc" * 16]
    async with joined(relay, sessions=[session_info(id_) for id_ in ids]) as at:
        held, told, gone = (at.wallet.session(id_) for id_ in ids)
        await at.socket.drop()
        still_there = [session_info(held.id)]
        at.socket = await relay.let_in(still_there)
        params = {"session_id": told.id, "reason": "the peer hung up"}
        await at.socket.say(method="closed", params=params)
        request_id, _ = await at.socket.hear_request("sessions")
        await at.socket.say(id=request_id, result=still_there)
        assert await asyncio.wait_for(told.closed(), 10) == "the peer hung up"
        assert await asyncio.wait_for(gone.closed(), 10) == "the relay no longer holds it"
        assert not held.is_closed
        assert at.wallet.session(held.id) is held


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 502, 503, 302])
async def test_what_a_proxy_says_meanwhile_ends_nothing(relay: ScriptedRelay, status: int) -> None:
    async with joined(relay, sessions=[session_info()]) as at:
        relay.refuse_with = status
        await at.socket.drop()
        # Of why it is away, the owner hears once.
        await at.until(Disconnected)
        await at.until(Disconnected)
        relay.refuse_with = None
        at.socket = await relay.let_in([session_info()])
        await at.until(Reconnected)
        assert not at.wallet.session(SESSION_ID).is_closed


@pytest.mark.parametrize("fault", ["garbage", "another origin", "no challenge", "too late"])
async def test_nor_does_a_relay_that_makes_no_sense(relay: ScriptedRelay, fault: str) -> None:
    async with joined(relay, sessions=[session_info()]) as at:
        await at.socket.drop()
        socket = await relay.accept()
        match fault:
            case "garbage":
                await socket.socket.send_str("<html>")
            case "another origin":
                await socket.challenge("https://elsewhere.example")
            case "no challenge":
                await socket.say(method="voided", params={})
            case "too late":
                # The relay's own limit was over before the wallet's words came.
                data = {"code": "unauthenticated"}
                error = {"code": -32000, "message": "No authentication came.", "data": data}
                await socket.challenge(relay.origin)
                await socket.say(id=None, error=error)
        at.socket = await relay.let_in([session_info()])
        await at.until(Reconnected)
        assert not at.wallet.session(SESSION_ID).is_closed


async def test_a_relay_that_says_no_for_good_ends_the_wallet(relay: ScriptedRelay) -> None:
    async with joined(relay, sessions=[session_info()]) as at:
        session = at.wallet.session(SESSION_ID)
        await at.socket.drop()
        socket = await relay.accept()
        await socket.challenge(relay.origin)
        request_id, _ = await socket.hear_request("authenticate")
        error = {"code": -32001, "message": "Not any more.", "data": {"code": "forbidden"}}
        await socket.say(id=request_id, error=error)
        with pytest.raises(RelayError, match="Not any more"):
            await at.until(Reconnected)
        for request in (at.wallet.sessions(), session.close(), session.closed()):
            with pytest.raises(RelayError):
                await request
        with pytest.raises(RelayError):
            await anext(session.messages())


async def test_messages_of_an_unknown_session_wait_for_its_peer_in_order(
    relay: ScriptedRelay,
) -> None:
    """Another device made it; whose it is, is asked once, and nothing overtakes."""
    async with joined(relay) as at:
        for sequence in (1, 2):
            params = {"session_id": SESSION_ID, "sequence": sequence, "message": "0012"}
            await at.socket.say(method="message", params=params)
        request_id, _ = await at.socket.hear_request("sessions")
        await at.socket.say(id=request_id, result=[session_info()])
        await at.socket.say(method="message", params={**params, "sequence": 3})
        told = [await at.until(MessageReceived) for _ in range(3)]
        assert [(each.received.sequence, each.peer) for each in told] == [
            (1, PEER),
            (2, PEER),
            (3, PEER),
        ]


async def test_messages_of_a_session_that_nobody_can_name_are_not_lost(
    relay: ScriptedRelay,
) -> None:
    async with joined(relay, request_timeout=0.1) as at:
        params = {"session_id": SESSION_ID, "sequence": 1, "message": "0012"}
        await at.socket.say(method="message", params=params)
        told = await at.until(MessageReceived)
        assert (told.received.sequence, told.peer) == (1, None)


async def test_a_relay_that_is_busy_is_asked_again(relay: ScriptedRelay) -> None:
    async with joined(relay) as at:
        relay.refuse_with = 503
        with capture_logs() as logs:
            await at.socket.drop()
            while sum(log["event"] == "relay_unreachable" for log in logs) < 3:
                await asyncio.sleep(0.001)
        relay.refuse_with = None
        await at.reconnected()
        await at.until(Reconnected)


async def test_a_reader_that_is_slow_loses_the_oldest_and_can_tell(
    relay: ScriptedRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_proxy.wallet.session._MAX_WAITING", 3)
    async with joined(relay, sessions=[session_info()]) as at:
        session = at.wallet.session(SESSION_ID)
        for sequence in range(1, 6):
            params = {"session_id": SESSION_ID, "sequence": sequence, "message": "0012"}
            await at.socket.say(method="message", params=params)
        closed = {"session_id": SESSION_ID, "reason": "done"}
        await at.socket.say(method="closed", params=closed)
        await session.closed()
        assert [message.sequence async for message in session.messages()] == [3, 4, 5]


async def test_leaving_leaves_nothing_running(relay: ScriptedRelay) -> None:
    before = asyncio.all_tasks()
    signer = ScriptedSigner()
    signer.gate.clear()
    async with joined(relay, signer=signer) as at:
        await at.ask()
        await at.until(DelegationReceived)
        listing = asyncio.create_task(at.wallet.sessions())
        await at.socket.hear_request("sessions")
    with pytest.raises(ConnectionLost):
        await listing
    assert [event async for event in at.wallet.events()] == []
    at.socket.over.set()
    own: Callable[[asyncio.Task[Any]], bool] = lambda task: "lightning_proxy" in repr(task)  # noqa: E731
    assert not [task for task in asyncio.all_tasks() - before if own(task)]


async def test_leaving_while_the_relay_is_away(relay: ScriptedRelay) -> None:
    async with joined(relay, backoff=Backoff(first=60, most=60)) as at:
        await at.socket.drop()
        await at.until(Disconnected)
        waiting = asyncio.create_task(at.wallet.sessions())
        await asyncio.sleep(0)
    with pytest.raises(ConnectionLost, match="closed"):
        await waiting


def test_backoff_doubles_within_its_bounds() -> None:
    backoff = Backoff(first=1, most=8)
    for attempt, most in enumerate((1, 2, 4, 8, 8, 8)):
        delays = [backoff.delay(attempt) for _ in range(50)]
        assert most / 2 <= min(delays) <= max(delays) <= most
        assert len(set(delays)) > 1
    assert backoff.delay(10**9) <= 8


# ---- what comes again until it is acknowledged ----

READY = session_info()


def told(position: int) -> dict[str, Any]:
    return {
        "session_id": SESSION_ID,
        "sequence": position,
        "message": f"8001{position:04x}",
        "position": position,
    }


async def acknowledged(at: Joined, position: int) -> None:
    """Play the relay until it knows that all up to this position came."""
    known = 0
    while known < position:
        request_id, params = await at.socket.hear_request("acknowledge")
        assert params["position"] > known
        known = params["position"]
        await at.socket.say(id=request_id, result={})
    assert known == position


async def test_notifications_are_acknowledged_and_come_out_once(relay: ScriptedRelay) -> None:
    async with joined(relay, sessions=[READY]) as at:
        for position in (7, 8, 9):
            await at.socket.say(method="message", params=told(position))
            assert (await at.until(MessageReceived)).received.position == position
        await acknowledged(at, 9)
        await at.socket.drop()
        await at.reconnected([READY])
        # The relay did not hear of the last one: it says it again, and hears of it again.
        for position in (9, 10):
            await at.socket.say(method="message", params=told(position))
        assert (await at.until(MessageReceived)).received.position == 10
        await acknowledged(at, 10)


async def test_who_stores_messages_first_acknowledges_them(relay: ScriptedRelay) -> None:
    async with joined(relay, sessions=[READY], acknowledge=False) as at:
        for position in (7, 8):
            await at.socket.say(method="message", params=told(position))
            await at.until(MessageReceived)
        storing = asyncio.create_task(at.wallet.acknowledge(7))
        await acknowledged(at, 7)
        await storing
        # Nothing else was said meanwhile: the next thing that the relay hears is this.
        closing = asyncio.create_task(at.wallet.close_session(SESSION_ID))
        request_id, _ = await at.socket.hear_request("close")
        await at.socket.say(id=request_id, result={})
        await closing


async def test_who_leaves_at_the_first_message_leaves_nothing_begun(relay: ScriptedRelay) -> None:
    """The acknowledgement is an errand that ends before it began: no coroutine is left behind."""
    async with joined(relay, sessions=[READY]) as at:
        await at.socket.say(method="message", params=told(7))
        async for event in at.wallet.events():
            if isinstance(event, MessageReceived):
                break
    gc.collect()


async def test_positions_of_another_inbox_begin_anew(relay: ScriptedRelay) -> None:
    async with joined(relay, sessions=[READY]) as at:
        await at.socket.say(method="message", params=told(500))
        await at.until(MessageReceived)
        await acknowledged(at, 500)
        await at.socket.drop()
        await at.reconnected([READY], inbox="2c" * 16)
        await at.socket.say(method="message", params=told(3))
        assert (await at.until(MessageReceived)).received.position == 3


async def test_a_lost_session_is_over(relay: ScriptedRelay) -> None:
    async with joined(relay, sessions=[READY]) as at:
        session = at.wallet.session(SESSION_ID)
        lost = {"session_id": SESSION_ID, "peer": READY["peer"], "position": 4}
        await at.socket.say(method="session_lost", params=lost)
        assert await at.until(SessionLost) == SessionLost(**lost)
        assert "restarted" in await session.closed()
        await acknowledged(at, 4)


async def test_without_a_signer_a_used_slot_is_shown_and_stays(relay: ScriptedRelay) -> None:
    used = {
        "slot_id": "ee" * 16,
        "session_id": SESSION_ID,
        "peer": PEER.hex(),
        "channel_id": "cc" * 32,
        "open_channel": "0020",
        "accept_channel": "0021",
    }
    async with joined(relay, sessions=[READY]) as at:
        await at.socket.say(method="message", params=told(7))
        await at.socket.say(method="slot_used", params={**used, "position": 8})
        assert (await at.until(SlotUsed)).slot_id == used["slot_id"]
        await acknowledged(at, 7)
        closing = asyncio.create_task(at.wallet.close_session(SESSION_ID))
        request_id, _ = await at.socket.hear_request("close")
        await at.socket.say(id=request_id, result={})
        await closing

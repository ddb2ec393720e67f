"""The table "What the relay does by itself", line by line."""

import asyncio
import gc

import pytest
from structlog.testing import capture_logs

from lightning_proxy.api import ApiSettings, Server
from lightning_proxy.api.limits import LimitSettings
from lightning_proxy.bolt import messages
from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.features import DEFAULT_FEATURES, Features
from lightning_proxy.bolt.messages import (
    ChannelReady,
    Error,
    FundingCreated,
    FundingSigned,
    GossipTimestampFilter,
    Init,
    Message,
    QueryChannelRange,
    QueryShortChannelIds,
    ReplyChannelRange,
    ReplyShortChannelIdsEnd,
    Shutdown,
    decode,
)
from lightning_proxy.relay.delegation import DelegationState
from tests.support.channels import channel_keys, open_channel, point
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import PEER_INIT, RawWallet, RpcFailure, raw_wallet, relay
from tests.unit.bolt.samples import ACCEPT_CHANNEL

REGTEST = CHAIN_HASHES["regtest"]
ALL_CHANNELS = bytes(32)


def ping(pong_bytes: int) -> bytes:
    return b"\x00\x12" + pong_bytes.to_bytes(2, "big") + b"\x00\x00"


async def still_there(connection: PeerConnection) -> None:
    """The relay answers a ping: nothing it should have answered before is outstanding."""
    await connection.send(ping(9))
    assert await connection.receive() == b"\x00\x13\x00\x09" + bytes(9)


async def warned_and_closed(connection: PeerConnection, words: str) -> None:
    warning = decode(await connection.receive())
    assert isinstance(warning, messages.Warning)
    assert warning.channel_id == ALL_CHANNELS
    assert words in warning.data.decode()
    with pytest.raises(EOFError):
        await connection.receive()


def init(*bits: int, networks: tuple[bytes, ...] | None = None) -> bytes:
    features = DEFAULT_FEATURES | Features.from_bits(bits)
    return Init(globalfeatures=b"", features=features.to_bytes(), networks=networks).encode()


@pytest.mark.parametrize(
    ("peer_init", "words"),
    [
        (init(100), "100"),
        (init(2022), "2022"),
        (init(51), "option_scid_alias"),
        (Init(globalfeatures=b"\x10\x00\x00\x00\x00\x00\x00\x00\x00", features=b"").encode(), "68"),
        (init()[:-1], "init"),
        (messages.Warning(channel_id=ALL_CHANNELS, data=b"").encode(), "warning came before init"),
        (open_channel().encode(), "open_channel came before init"),
        (ping(3), "ping came before init"),
        (b"\x00\x13\x00\x01\x00", "pong came before init"),
    ],
)
async def test_inits_that_end_the_session(
    wallet: RawWallet, peer: ScriptedPeer, peer_init: bytes, words: str
) -> None:
    with pytest.raises(RpcFailure) as caught:
        await wallet.open_session(peer, peer_init)
    assert caught.value.code == "peer_failed"
    assert words in caught.value.sentence


async def test_a_foreign_chain_ends_the_session_and_a_common_one_does_not(
    peer: ScriptedPeer,
) -> None:
    async with relay(networks=["regtest", "signet"]) as server, raw_wallet(server.url) as wallet:
        foreign = init(networks=(CHAIN_HASHES["bitcoin"],))
        with pytest.raises(RpcFailure, match="no chain in common"):
            await wallet.open_session(peer, foreign)
        common = init(networks=(CHAIN_HASHES["bitcoin"], CHAIN_HASHES["signet"]))
        _, connection = await wallet.open_session(peer, common)
        own = decode(connection.init)
        assert isinstance(own, Init)
        assert own.networks == (REGTEST, CHAIN_HASHES["signet"])
        filter_ = decode(await connection.receive())
        assert isinstance(filter_, GossipTimestampFilter)
        assert filter_.chain_hash == REGTEST
        assert (filter_.first_timestamp, filter_.timestamp_range) == (0xFFFFFFFF, 0)
        await still_there(connection)


async def test_unknown_odd_features_are_fine(wallet: RawWallet, peer: ScriptedPeer) -> None:
    await wallet.open_session(peer, init(2023, 31, 101))


async def test_a_second_init(wallet: RawWallet, peer: ScriptedPeer) -> None:
    session_id, connection = await wallet.open_session(peer)
    await connection.send(PEER_INIT)
    await warned_and_closed(connection, "second init")
    closed = await wallet.event("closed")
    assert closed["session_id"] == session_id
    assert "second init" in closed["reason"]


@pytest.mark.parametrize("pong_bytes", [65532, 65535])
async def test_a_ping_that_wants_no_pong(
    wallet: RawWallet, peer: ScriptedPeer, pong_bytes: int
) -> None:
    session_id, connection = await wallet.open_session(peer)
    await connection.send(ping(pong_bytes))
    await still_there(connection)
    (info,) = await wallet.call("sessions")
    assert info["session_id"] == session_id
    assert info["pings_received"] == 2


async def test_own_pings_when_idle_and_an_end_when_they_stay_unanswered(
    peer: ScriptedPeer,
) -> None:
    async with (
        relay(ping_interval=0.2, pong_timeout=0.4) as server,
        raw_wallet(server.url) as wallet,
    ):
        _, connection = await wallet.open_session(peer)
        for _ in range(3):
            message = await connection.receive()
            assert message[:2] == b"\x00\x12"
            await connection.send(b"\x00\x13" + message[2:4] + bytes(int.from_bytes(message[2:4])))
        (info,) = await wallet.call("sessions")
        assert info["pongs_received"] >= 2
        closed = await wallet.event("closed")
        assert "did not answer a ping" in closed["reason"]
        assert server.relay.counters.pings_unanswered == 1


async def test_a_peer_that_never_reads_costs_no_other_session_its_pings(
    peer: ScriptedPeer,
) -> None:
    # Not the wallet's own limit is to end this.
    limits = LimitSettings(bytes_per_wallet_burst=1 << 30, requests_per_wallet_burst=1_000_000)
    async with (
        # Long enough to fill the queue first, on a machine that is busy, too.
        relay(ApiSettings(port=0, limits=limits), ping_interval=2, pong_timeout=5) as server,
        raw_wallet(server.url) as wallet,
    ):
        stuck_id, stuck = await wallet.open_session(peer)
        _, healthy = await wallet.open_session(peer)
        stuck.stop_reading()
        # Its queue is filled to the last byte: not even a ping fits.
        for size in (60_000, 5_000, 500, 50, 2):
            message = (b"\x80\x01" + bytes(size))[:size]
            with pytest.raises(RpcFailure, match="does not read"):
                while True:
                    await wallet.call("send", session_id=stuck_id, message=message.hex())
        closed = await wallet.event("closed")
        assert (closed["session_id"], closed["reason"]) == (stuck_id, "the peer does not read")
        for _ in range(2):
            ping_ = await healthy.receive()
            assert ping_[:2] == b"\x00\x12"
            await healthy.send(b"\x00\x13\x00\x00")


async def test_a_refusal_is_kept_and_logged_only_as_a_sentence(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    _, connection = await wallet.open_session(peer)
    await connection.send(open_channel().encode())
    delegation = await wallet.event("delegate")
    with capture_logs() as logs:
        await wallet.refuse(delegation, "a line\nand another " * 5000)
        await connection.receive()
    (logged,) = [entry["reason"] for entry in logs if entry["event"] == "delegation_refused"]
    assert len(logged) < 600
    assert "\n" not in logged
    await wallet.answer(delegation, channel_keys())
    assert len((await wallet.event("rejected"))["reason"]) < 700


async def test_warnings_and_errors_reach_the_wallet(wallet: RawWallet, peer: ScriptedPeer) -> None:
    session_id, connection = await wallet.open_session(peer)
    warning = messages.Warning(channel_id=b"\x05" * 32, data=b"careful\x00\xff").encode()
    error = Error(channel_id=b"\x05" * 32, data=b"no").encode()
    await connection.send(warning, error)
    for number, sent in enumerate((warning, error), 1):
        assert await wallet.event("message") == {
            "session_id": session_id,
            "sequence": number,
            "message": sent.hex(),
        }
    await still_there(connection)


async def test_a_peer_cannot_fill_the_log(wallet: RawWallet, peer: ScriptedPeer) -> None:
    _, connection = await wallet.open_session(peer)
    warning = messages.Warning(channel_id=b"\x05" * 32, data=b"again").encode()
    with capture_logs() as logs:
        await connection.send(*[warning] * 50)
        for _ in range(50):
            await wallet.event("message")
    levels = [entry["log_level"] for entry in logs if entry["event"] == "peer_warning"]
    assert levels == ["info"] * 5 + ["debug"] * 45


async def test_an_error_for_all_channels_ends_the_session(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    session_id, connection = await wallet.open_session(peer)
    await connection.send(open_channel().encode())
    delegation = await wallet.event("delegate")
    error = Error(channel_id=ALL_CHANNELS, data=b"out of order").encode()
    await connection.send(error)
    assert (await wallet.event("message"))["message"] == error.hex()
    assert (await wallet.event("voided"))["id"] == delegation["id"]
    assert "out of order" in (await wallet.event("closed"))["reason"]
    with pytest.raises(EOFError):
        await connection.receive()
    with pytest.raises(RpcFailure) as caught:
        await wallet.call("close", session_id=session_id)
    assert caught.value.code == "session_unknown"


async def test_an_error_for_the_channel_voids_its_delegation_only(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    _, connection = await wallet.open_session(peer)
    gone, kept = open_channel(), open_channel()
    await connection.send(gone.encode(), kept.encode())
    first, second = await wallet.event("delegate"), await wallet.event("delegate")
    await connection.send(Error(channel_id=gone.temporary_channel_id, data=b"never mind").encode())
    await wallet.event("message")
    voided = await wallet.event("voided")
    assert voided["id"] == first["id"]
    assert "never mind" in voided["reason"]
    await wallet.answer(first, channel_keys())
    assert (await wallet.event("rejected"))["code"] == "delegation_over"
    await wallet.answer(second, channel_keys())
    assert decode(await connection.receive()).NAME == "accept_channel"


async def test_gossip_queries_get_the_truth_which_is_nothing(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    _, connection = await wallet.open_session(peer)
    await connection.send(
        QueryChannelRange(
            chain_hash=REGTEST, first_blocknum=7, number_of_blocks=0xFFFF_FFF0
        ).encode(),
        QueryShortChannelIds(chain_hash=REGTEST, encoded_short_ids=b"\x00" + bytes(16)).encode(),
    )
    assert decode(await connection.receive()) == ReplyChannelRange(
        chain_hash=REGTEST,
        first_blocknum=7,
        number_of_blocks=0xFFFF_FFF0,
        sync_complete=1,
        encoded_short_ids=b"\x00",
    )
    assert decode(await connection.receive()) == ReplyShortChannelIdsEnd(
        chain_hash=REGTEST, full_information=0
    )
    await connection.send(b"\x01\x07" + bytes(5))
    await warned_and_closed(connection, "query_channel_range.chain_hash")


def channel_update(short_channel_id: int) -> bytes:
    return b"\x01\x02" + bytes(64) + REGTEST + short_channel_id.to_bytes(8, "big") + bytes(34)


async def test_gossip_is_dropped_but_for_the_wallets_own_channels(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    session_id, connection = await wallet.open_session(peer)
    await wallet.call("subscribe", session_id=session_id, raw=False, short_channel_ids=[77])
    announcements = [b"\x01\x00" + bytes(428), b"\x01\x01" + bytes(150), b"\x01\x09" + bytes(40)]
    await connection.send(
        *announcements, channel_update(76), channel_update(77), b"\x01\x02", channel_update(78)
    )
    assert (await wallet.event("message"))["message"] == channel_update(77).hex()
    await still_there(connection)
    (info,) = await wallet.call("sessions")
    assert info["gossip_dropped"] == 6
    await wallet.quiet()


async def test_unknown_odd_types_are_ignored(wallet: RawWallet, peer: ScriptedPeer) -> None:
    _, connection = await wallet.open_session(peer)
    await connection.send(b"\x80\x01", b"\x02\x01" + bytes(100), b"\x00\x07\x00\x00")
    await still_there(connection)
    await wallet.quiet()


@pytest.mark.parametrize("type_", [b"\x80\x00", b"\x00\x04", b"\xff\xfe"])
async def test_an_unknown_even_type_ends_the_session_after_a_warning(
    wallet: RawWallet, peer: ScriptedPeer, type_: bytes
) -> None:
    _, connection = await wallet.open_session(peer)
    await connection.send(type_ + b"abc")
    await warned_and_closed(connection, str(int.from_bytes(type_, "big")))
    assert "unknown even" in (await wallet.event("closed"))["reason"]


async def test_channel_messages_that_are_not_delegated_reach_the_wallet(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    session_id, connection = await wallet.open_session(peer)
    for message in (
        Shutdown(channel_id=b"\x0c" * 32, scriptpubkey=bytes(22)),
        # Of a channel that the relay doesn't know; the wallet may.
        ChannelReady(channel_id=b"\x0d" * 32, second_per_commitment_point=point()),
    ):
        await connection.send(message.encode())
        assert (await wallet.event("message"))["message"] == message.encode().hex()
        assert (await wallet.event("delegate"))["kind"] == "unknown_channel"
    reply = Error(channel_id=ALL_CHANNELS[:31] + b"\x01", data=b"no").encode()
    await wallet.call("send", session_id=session_id, message=reply.hex())
    assert await connection.receive() == reply


@pytest.mark.parametrize(
    "message",
    [
        FundingCreated(
            temporary_channel_id=b"\x0c" * 32,
            funding_txid=bytes(32),
            funding_output_index=0,
            signature=bytes(64),
        ),
        FundingSigned(channel_id=b"\x0c" * 32, signature=bytes(64)),
        ACCEPT_CHANNEL,
    ],
    ids=lambda message: message.NAME,
)
async def test_the_opening_of_an_unknown_channel_gets_an_error(
    wallet: RawWallet, peer: ScriptedPeer, message: Message
) -> None:
    _, connection = await wallet.open_session(peer)
    await connection.send(message.encode())
    error = decode(await connection.receive())
    assert isinstance(error, Error)
    assert error.data == f"{message.NAME}: unknown channel".encode()
    await wallet.quiet()


@pytest.mark.parametrize(
    "message",
    [
        open_channel(temporary_channel_id=ALL_CHANNELS),
        FundingSigned(channel_id=ALL_CHANNELS, signature=bytes(64)),
    ],
    ids=lambda message: message.NAME,
)
async def test_no_error_ever_names_all_channels(
    wallet: RawWallet, peer: ScriptedPeer, message: Message
) -> None:
    """BOLT #1: it would fail the live ones, too."""
    _, connection = await wallet.open_session(peer)
    await connection.send(message.encode())
    await warned_and_closed(connection, message.NAME)


async def test_opening_v2_gets_an_error_for_that_channel(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    _, connection = await wallet.open_session(peer)
    point = open_channel().funding_pubkey
    channel_id = b"\x0c" * 32
    fixed = REGTEST + channel_id + bytes(4 + 4 + 8 * 4 + 2 + 2 + 4) + point * 7 + b"\x00"
    await connection.send(b"\x00\x40" + fixed)
    error = decode(await connection.receive())
    assert isinstance(error, Error)
    assert error.channel_id == channel_id
    assert b"dual funding" in error.data
    await wallet.quiet()


async def test_raw_mode_gets_every_message_in_order_and_sends(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    session_id, connection = await wallet.open_session(peer)
    assert (await wallet.call("subscribe", session_id=session_id, raw=True))["raw"] is True
    sent = [
        open_channel().encode(),
        b"\x80\x00even",
        b"\x80\x01odd",
        channel_update(1),
        QueryShortChannelIds(chain_hash=REGTEST, encoded_short_ids=b"\x00").encode(),
        b"\x00\x07\x00\x01a",
        b"\x80\x03" + bytes(65533),
    ]
    await connection.send(*sent[:3], ping(1), *sent[3:])
    assert await connection.receive() == b"\x00\x13\x00\x01\x00"
    for number, message in enumerate(sent, 1):
        event = await wallet.event("message")
        assert (event["sequence"], event["message"]) == (number, message.hex())
    large = b"\x80\x05" + bytes(65533)
    await wallet.call("send", session_id=session_id, message=large.hex())
    assert await connection.receive() == large
    await wallet.call("subscribe", session_id=session_id, raw=False)
    await connection.send(open_channel().encode())
    assert (await wallet.event("delegate"))["sequence"] == len(sent) + 1


async def test_silence_becomes_an_error_at_the_deadline(peer: ScriptedPeer) -> None:
    async with (
        relay(deadlines={"channel_keys": 0.3}) as server,
        raw_wallet(server.url) as wallet,
    ):
        _, connection = await wallet.open_session(peer)
        asked = open_channel()
        await connection.send(asked.encode())
        delegation = await wallet.event("delegate")
        assert 0.29 < delegation["deadline"] - delegation["created"] < 0.31
        error = decode(await connection.receive())
        assert isinstance(error, Error)
        assert error.channel_id == asked.temporary_channel_id
        assert b"did not answer in time" in error.data
        assert (await wallet.event("voided"))["id"] == delegation["id"]
        await wallet.answer(delegation, channel_keys())
        rejected = await wallet.event("rejected")
        assert rejected["code"] == "delegation_over"
        assert "in time" in rejected["reason"]
        assert not server.relay.counters.outcomes[DelegationState.SETTLED]


async def test_the_peer_going_away_voids_the_delegation(
    wallet: RawWallet, peer: ScriptedPeer
) -> None:
    session_id, connection = await wallet.open_session(peer)
    await connection.send(open_channel().encode())
    delegation = await wallet.event("delegate")
    await connection.close()
    voided = await wallet.event("voided")
    assert voided["id"] == delegation["id"]
    assert (await wallet.event("closed"))["session_id"] == session_id
    await wallet.answer(delegation, channel_keys())
    assert (await wallet.event("rejected"))["code"] == "delegation_over"


async def test_a_wallet_that_asks_and_hangs_up_at_once_leaves_nothing_begun(
    server: Server,
) -> None:
    """RFC 6455 frames in one read: what was asked for is given up before it began."""
    async with raw_wallet(server.url) as wallet:
        request = b'{"jsonrpc":"2.0","id":1,"method":"channels","params":{}}'
        unmasked = bytes(4)
        text = bytes([0x81, 0x80 | len(request)]) + unmasked + request
        close = b"\x88\x82" + unmasked + (1000).to_bytes(2, "big")
        wallet.write(text + close)
        await asyncio.wait_for(wallet.ended.wait(), 10)
    while list(server.relay.inboxes()):
        await asyncio.sleep(0.01)
    gc.collect()


async def test_a_wallet_that_never_comes_back_is_forgotten(peer: ScriptedPeer) -> None:
    secret = b"\x76" * 32
    async with relay(forget_after=0.2) as server:
        async with raw_wallet(server.url, secret) as wallet:
            session_id, connection = await wallet.open_session(peer)
        while server.relay.inbox_of(wallet.node_id).sockets:
            await asyncio.sleep(0.01)
        await connection.close()
        while list(server.relay.sessions()):
            await asyncio.sleep(0.01)
        # Whoever comes in time hears what happened ...
        assert (server.relay.wallets, server.relay.queued_bytes > 0) == (1, True)
        async with raw_wallet(server.url, secret) as wallet:
            assert (await wallet.event("closed"))["session_id"] == session_id
            await asyncio.sleep(0.3)
            _, connection = await wallet.open_session(peer)
        await connection.close()
        # ... and what waits for nobody goes.
        async with asyncio.timeout(10):
            while server.relay.wallets or server.relay.queued_bytes:
                await asyncio.sleep(0.01)


async def test_messages_for_a_wallet_that_is_away_wait_and_the_oldest_go_first(
    peer: ScriptedPeer,
) -> None:
    secret = b"\x71" * 32
    async with relay(max_queued_bytes_per_wallet=65_536) as server:
        async with raw_wallet(server.url, secret) as wallet:
            session_id, connection = await wallet.open_session(peer)
            await wallet.call("subscribe", session_id=session_id, raw=True)
        while server.relay.inbox_of(wallet.node_id).sockets:
            await asyncio.sleep(0.01)
        for number in range(100):
            await connection.send(b"\x80\x01" + bytes([number]) * 1000)
        await still_there(connection)
        async with raw_wallet(server.url, secret) as wallet:
            first = await wallet.event("message")
            assert first["sequence"] > 50
            rest = [await wallet.event("message") for _ in range(100 - first["sequence"])]
            assert rest[-1]["sequence"] == 100
            assert rest[-1]["message"] == (b"\x80\x01" + bytes([99]) * 1000).hex()
            await wallet.quiet()
            assert server.relay.counters.notifications_dropped == first["sequence"] - 1
            await wallet.acknowledge()
            assert server.relay.queued_bytes == 0

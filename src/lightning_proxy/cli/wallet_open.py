"""`lightning-proxy wallet open`: a new channel, which this wallet pays for."""

import asyncio
import secrets
import sys
from asyncio import CancelledError
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Annotated, Final

import typer
from msgspec import structs

from lightning_proxy.bolt.address import parse
from lightning_proxy.bolt.messages import Error
from lightning_proxy.bolt.opening import channel_id_of
from lightning_proxy.cli.wallet_options import DEFAULT_FILE, Json, PassphraseFile, WalletFile
from lightning_proxy.cli.wallet_relay_options import (
    ChainUrl,
    Peer,
    PolicyFile,
    RelayUrl,
    Token,
)
from lightning_proxy.cli.wallet_run import run_online
from lightning_proxy.cli.wallet_secrets import load_keys, load_policy
from lightning_proxy.rpc import Answer, FundingCreated, FundingTransaction, Rejected, Voided
from lightning_proxy.terminal import quoted
from lightning_proxy.wallet import (
    Answered,
    ChannelError,
    ChannelOpened,
    DelegationReceived,
    Event,
    FundingError,
    FundingWanted,
    LeftOpen,
    MessageReceived,
    ReferenceWallet,
    Refusal,
    Refused,
    SessionClosed,
)
from lightning_proxy.wallet.approval import leave_open, read_lines
from lightning_proxy.wallet.display import Output
from lightning_proxy.wallet.funding import MAX_PSBT, read_funding
from lightning_proxy.wallet.policy import ChannelType

#: Seconds between two looks for the PSBT's file.
_LOOK_AGAIN: Final = 0.5
#: Seconds in which the relay has to take our last word.
_GIVING_UP: Final = 5.0
#: Seconds for showing what has come already.
_LAST_WORDS: Final = 0.2
#: Base64 takes four characters for three bytes.
_MAX_LINE: Final = MAX_PSBT // 3 * 4 + 4


def _channel_type(value: str | None) -> ChannelType | None:
    match value:
        case None | "anchors" | "static_remotekey":
            return value
    raise typer.BadParameter("write anchors or static_remotekey")


def open_channel(
    peer: Peer,
    amount: Annotated[
        int, typer.Argument(metavar="AMOUNT_SAT", min=1, help="What the channel holds, in sat.")
    ],
    relay: RelayUrl,
    file: WalletFile = DEFAULT_FILE,
    token: Token = None,
    passphrase_file: PassphraseFile = None,
    push_msat: Annotated[
        int, typer.Option("--push-msat", min=0, help="Give the peer so much of it, in msat.")
    ] = 0,
    channel_type: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            callback=_channel_type,
            help="anchors or static_remotekey; else the best that both nodes support.",
        ),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Have it announced: that is not done yet, and refused.")
    ] = False,
    feerate: Annotated[
        int | None,
        typer.Option(
            "--feerate",
            min=253,
            help="Of the commitment transactions, in sat for 1000 units of weight; else the chain "
            "source's estimate.",
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            help="The chain: bitcoin, testnet, signet, regtest …; else the chain source's, or the "
            "only one of the policy.",
        ),
    ] = None,
    psbt_file: Annotated[
        Path | None,
        typer.Option(
            "--psbt-file",
            dir_okay=False,
            help="Where the on-chain wallet will write the signed PSBT; else it is a line of "
            "input (a terminal takes 4095 characters of one).",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until both sides are ready to use the channel.")
    ] = False,
    policy: PolicyFile = None,
    chain: ChainUrl = None,
    json: Json = False,
) -> None:
    """Open a channel: shows where to pay, and takes a signed PSBT that pays it.

    Don't broadcast the transaction: that is done here, through the chain
    source or else the relay, once the peer has signed for our way back.
    """
    output = Output(json)
    rules = load_policy(output, policy)
    keys = load_keys(output, file, passphrase_file)

    async def work() -> None:
        temporary_id = secrets.token_bytes(32)
        funder = PsbtReader(output, psbt_file, temporary_id)
        async with (
            ReferenceWallet(
                file,
                keys,
                relay,
                # Other channels are for `watch`.
                policy=structs.replace(rules, approve_by_hand=True),
                approve=leave_open,
                token=token,
                chain=chain,
                funder=funder,
                reconnect=wait,
            ) as wallet,
            aclosing(wallet.watch()) as events,
        ):
            await wallet.give_up_abandoned()
            session = wallet.client.session_with(parse(peer).node_id)
            if session is None:
                session = await wallet.connect(peer)
                output.connected(session)
            try:
                await wallet.open_channel(
                    session,
                    amount,
                    push_msat,
                    channel_type=_channel_type(channel_type),
                    announce=public,
                    feerate_per_kw=feerate,
                    chain=network,
                    temporary_channel_id=temporary_id,
                )
                output.offered(temporary_id, session)
                await _Opening(output, wallet, temporary_id, session.id).run(events, wait=wait)
            except BaseException as error:
                if not await _give_up(wallet, temporary_id) and isinstance(error, CancelledError):
                    await _say_what_goes_on(output, wallet, temporary_id)
                raise

    run_online(output, work())


async def _give_up(wallet: ReferenceWallet, temporary_id: bytes) -> bool:
    """The opening comes to nothing here: it has to at the peer, too, unless money may follow."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_GIVING_UP):
            return await wallet.give_up(temporary_id)
    return True


async def _say_what_goes_on(output: Output, wallet: ReferenceWallet, temporary_id: bytes) -> None:
    stored = await wallet.record.change(lambda ledger: ledger.offered(temporary_id))
    if stored is not None and stored.is_committed and stored.failure is None:
        output.hint(
            "This wallet has signed for the channel's funding, so the opening is not given up: "
            "lightning-proxy wallet watch goes on with it."
        )


class _Opening:
    """One opening, followed by the wallet's events; raises `ChannelError` when it comes to nothing.

    `run` returns when the channel is funded, or with `wait` when it is open.
    """

    def __init__(
        self, output: Output, wallet: ReferenceWallet, temporary_id: bytes, session_id: str
    ) -> None:
        self._output = output
        self._wallet = wallet
        self._session_id = session_id
        self._channel_ids = {temporary_id}
        self._delegations: set[str] = set()
        self._transaction: str | None = None
        self._released = False

    async def run(self, events: AsyncGenerator[Event, None], *, wait: bool) -> None:
        async for event in events:
            self._output.event(event)
            self._check(event)
            if isinstance(event, ChannelOpened) and event.channel_id in self._channel_ids:
                return
            if self._released and not wait:
                break
        # Whatever the relay has to say against it comes before the answer to another question.
        await self._wallet.client.sessions()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                async for event in events:
                    self._output.event(event)
                    self._check(event)

    def _check(self, event: Event) -> None:
        match event:
            case DelegationReceived(request) if request.channel_id in self._channel_ids:
                self._delegations.add(request.delegation_id)
            case Answered(request, answer) if request.delegation_id in self._delegations:
                self._answered(answer)
            case MessageReceived(received=received) if (
                isinstance(received.message, Error)
                and received.message.channel_id in self._channel_ids
            ):
                raise ChannelError(f"The peer failed the channel: {quoted(received.message.data)}.")
            case Rejected() if event.id in self._delegations and self._transaction is not None:
                raise ChannelError(
                    f"The relay does not broadcast the funding transaction: {event.reason} "
                    f"Both sides have signed, so do it yourself: {self._transaction}"
                )
            case _ if self._released:
                pass
            case Refused() if event.delegation_id in self._delegations:
                raise ChannelError(f"The channel was not opened: {event.reason}.")
            case Voided() if event.id in self._delegations:
                raise ChannelError(f"The channel was not opened: {event.reason}.")
            case SessionClosed() if event.session_id == self._session_id:
                raise ChannelError(f"The connection to the peer is gone: {event.reason}.")

    def _answered(self, answer: Answer) -> None:
        match answer:
            case FundingCreated():
                txid = bytes.fromhex(answer.funding_txid)
                self._channel_ids.add(channel_id_of(txid, answer.funding_output_index))
            case FundingTransaction():
                self._released = True
                self._transaction = answer.transaction
                self._output.released()


class PsbtReader:
    """The owner as a `Funder` of this channel alone: is told what to pay, and gives a PSBT.

    The relay may still ask for another one, of an opening that was interrupted: to show what that
    costs would have the owner pay for the wrong channel. A PSBT that won't do is told of, and
    another may follow.
    """

    def __init__(self, output: Output, file: Path | None, temporary_channel_id: bytes) -> None:
        self._output = output
        self._file = file
        self._temporary_channel_id = temporary_channel_id

    async def fund(self, wanted: FundingWanted) -> bytes:
        """A PSBT that will do; raises `Refusal` when nobody gives one."""
        if wanted.temporary_channel_id != self._temporary_channel_id:
            raise LeftOpen
        self._output.funding_wanted(wanted, self._file)
        async with aclosing(_lines() if self._file is None else _contents(self._file)) as texts:
            async for text in texts:
                try:
                    read_funding(text, wanted)
                except FundingError as error:
                    self._output.hint(str(error))
                else:
                    return text
        raise Refusal("nobody pays for the channel")


async def _lines() -> AsyncGenerator[bytes, None]:
    """What is written, line by line, until the input ends."""
    queue: asyncio.Queue[str | None] = asyncio.Queue()
    read_lines(sys.stdin.fileno(), queue.put_nowait, lambda: queue.put_nowait(None), _MAX_LINE)
    while (line := await queue.get()) is not None:
        if line.strip():
            yield line.strip().encode()


async def _contents(file: Path) -> AsyncGenerator[bytes, None]:
    """What the file holds, whenever that is something else."""
    seen = b""
    while True:
        try:
            with file.open("rb") as opened:
                data = opened.read(_MAX_LINE)
        except FileNotFoundError:
            data = b""
        except OSError as error:
            raise Refusal(f"the PSBT's file can't be read: {error.strerror}") from None
        if data != seen:
            seen = data
            yield data
        await asyncio.sleep(_LOOK_AGAIN)

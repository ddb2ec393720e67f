"""`lightning-proxy demo`: a flow, or a whole channel, on this machine; the proof about the keys."""

import asyncio
import signal
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_proxy.bolt.address import parse
from lightning_proxy.bolt.errors import AddressError
from lightning_proxy.demo.channel import ChannelDemo
from lightning_proxy.demo.channel_peer import MINIMUM_DEPTH
from lightning_proxy.demo.proof import Proof
from lightning_proxy.demo.run import Demo, Report
from lightning_proxy.demo.sleep import SleepDemo
from lightning_proxy.demo.steps import Step
from lightning_proxy.terminal import plain

_FAILED: Final = 1
_INTERRUPTED: Final = 130

#: By the step's key.
WHAT: Final = {
    "act_one": "the wallet's act one, passed on by the relay",
    "act_two": "the peer's answer, passed back",
    "act_three": "the wallet's proof of its node key; the relay now has the transport keys",
    "init_sent": "the relay speaks for the wallet",
    "init_received": "the peer's features",
    "ping": "are you there?",
    "pong": "yes",
    "open_channel": "{opener} wants a channel",
    "delegated channel_keys": "that needs keys: the wallet is asked",
    "answered channel_keys": "public keys and limits, and no private key",
    "accept_channel": "{accepter}'s answer, as {opener} expects it",
    "asleep": "the wallet goes away; it left the URL at which its phone is woken",
    "push": "why, and an opaque id, signed by the relay; the phone wakes the wallet",
    "awake": "the wallet is there again",
    "delegated funding_created": "the wallet looks at it, has its coins pay, and signs",
    "answered funding_created": "an outpoint and a signature; the transaction stays at home",
    "funding_created": "{opener} names the funding output, and signs {accepter}'s way out",
    "delegated funding_signed": "the wallet rebuilds both commitments, checks, stores and signs",
    "answered funding_signed": "a signature; the relay checks it against its own copy",
    "funding_signed": "{accepter} signs {opener}'s way out: the funds are safe",
    "delegated funding_transaction": "the wallet checks that signature, and stores it",
    "answered funding_transaction": "nothing: the wallet's own chain source has it",
    "broadcast": "the funding transaction, and only now",
    "block": "a block: {count} of {of} confirmations",
    "delegated channel_ready": "the relay saw the blocks; the wallet looks for itself",
    "answered channel_ready": "the point of the next commitment",
    "channel_ready relay": "the wallet is ready",
    "channel_ready peer": "the peer is ready",
}

#: What both sides show of a channel, and what it is called in their views.
_AMOUNTS: Final = {
    "capacity (sat)": "capacity_sat",
    "its own balance (msat)": "our_balance_msat",
    "the other's (msat)": "peer_balance_msat",
}

app = typer.Typer(add_completion=False)


def _peer(value: str | None) -> str | None:
    try:
        return None if value is None else str(parse(value))
    except AddressError as error:
        raise typer.BadParameter(str(error)) from None


@app.command()
def demo(
    peer: Annotated[
        str | None,
        typer.Option(
            callback=_peer,
            metavar="PUBKEY@HOST:PORT",
            help="A real node to connect to, instead of the built-in one.",
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(min=1, metavar="SECONDS", help="For the real node's open_channel."),
    ] = 120.0,
    channel: Annotated[
        bool,
        typer.Option(
            "--channel", help="Go on to a channel that is ready, on a simulated blockchain."
        ),
    ] = False,
    anchors: Annotated[
        bool | None,
        typer.Option(
            "--anchors/--static-remotekey",
            help="With --channel: its type.",
            show_default="anchors",
        ),
    ] = None,
    outgoing: Annotated[
        bool, typer.Option("--outgoing", help="With --channel: the wallet opens it.")
    ] = False,
    sleep: Annotated[
        bool,
        typer.Option("--sleep", help="The wallet goes away, and a push wakes it for the channel."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> None:
    """Show the whole flow, and prove that no private key crossed the relay.

    Relay, peer and wallet run as processes of their own on this machine. What wallet and relay send
    each other is recorded; that, and on Linux the relay's memory, is then searched for each of the
    wallet's private keys. Exits with 1 unless each step came and nothing was found.

    Without --channel the flow ends with the answer to open_channel, and no funds move.
    """
    _check_together(peer, anchors, channel=channel, outgoing=outgoing, sleep=sleep)
    out = Console(highlight=False, soft_wrap=True)
    err = Console(highlight=False, soft_wrap=True, stderr=True)

    show = _Steps(out, outgoing=outgoing)

    def show_step(step: Step) -> None:
        if not json:
            show.step(step)

    def show_hint(sentence: str) -> None:
        # Stdout is for the one JSON object.
        (err if json else out).print(Text(f"\n{sentence}\n", "bold"))

    def make() -> Demo:
        if sleep:
            return SleepDemo(show_step)
        if channel:
            channel_type = "static_remotekey" if anchors is False else "anchors"
            return ChannelDemo(show_step, channel_type=channel_type, outgoing=outgoing)
        return Demo(show_step, show_hint, peer=peer, wait=wait)

    try:
        report = asyncio.run(_run(make))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(_INTERRUPTED) from None
    if json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        _show(out, report, sleep=sleep)
    if not report.ok:
        _show_failure(err, report)
        raise typer.Exit(_FAILED)


def _check_together(
    peer: str | None, anchors: bool | None, *, channel: bool, outgoing: bool, sleep: bool
) -> None:
    """Options that make no sense without, or with, another; raises `BadParameter`."""
    if (channel or sleep) and peer is not None:
        raise typer.BadParameter(
            "It is for the built-in peer: leave --peer out.",
            param_hint="--channel" if channel else "--sleep",
        )
    if channel and sleep:
        raise typer.BadParameter("One of them at a time.", param_hint="--channel/--sleep")
    if not channel and (outgoing or anchors is not None):
        raise typer.BadParameter(
            "It says what --channel is to open: add that.",
            param_hint="--outgoing" if outgoing else "--anchors/--static-remotekey",
        )


async def _run(make: Callable[[], Demo]) -> Report:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for the type checker: this runs in one
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await make().run()


class _Steps:
    """Writes steps as they come."""

    def __init__(self, console: Console, *, outgoing: bool) -> None:
        self._console = console
        opener, accepter = ("the wallet", "the peer") if outgoing else ("the peer", "the wallet")
        self._names = {"opener": opener, "accepter": accepter}
        self._blocks = 0

    def step(self, step: Step) -> None:
        self._blocks += step.name == "block"
        what = WHAT[step.key].format(**self._names, count=self._blocks, of=MINIMUM_DEPTH)
        size = "" if step.bytes is None else f"{step.bytes:,} bytes"
        line = Text(f"{step.at_ms:9.1f} ms  ", "dim")
        line.append(f"{step.from_:>6} → {step.to:<6}  ", "default")
        line.append(f"{step.name:<15}", "bold cyan")
        line.append(f"{size:>12}   ", "default")
        line.append(what, "dim")
        self._console.print(line)


def _show(console: Console, report: Report, *, sleep: bool) -> None:
    if sleep and report.ok:
        _show_times(console, report.steps)
    if report.channel is not None:
        _show_channel(console, report.channel)
    if report.proof is not None:
        _show_proof(console, report.proof)


def _show_times(console: Console, steps: list[Step]) -> None:
    """How long the peer waited, and for what."""
    at = {step.name: step.at_ms for step in steps}
    waited = {name: at[name] - at["open_channel"] for name in ("push", "awake", "accept_channel")}
    console.print(
        Text(
            f"\nFrom open_channel it took {waited['push']:.0f} ms to the push, "
            f"{waited['awake']:.0f} ms until the wallet was there, and "
            f"{waited['accept_channel']:.0f} ms to its answer."
        )
    )


def _show_channel(console: Console, views: dict[str, dict[str, Any]]) -> None:
    """Both sides' view, side by side."""
    wallet, peer = views["wallet"], views["peer"]
    console.print(Text(f"\nChannel {wallet['channel_id']}, {wallet['channel_type']}"))
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("the wallet sees", justify="right")
    table.add_column("the peer sees", justify="right")
    table.add_row("  role", wallet["role"], peer["role"])
    table.add_row("  state", wallet["state"], peer["state"])
    for label, name in _AMOUNTS.items():
        table.add_row(f"  {label}", *(f"{view[name]:,}" for view in (wallet, peer)))
    confirmations = wallet["funding"]["confirmations"], peer["confirmations"]
    table.add_row("  confirmations", *map(str, confirmations))
    console.print(table)


def _show_proof(console: Console, proof: Proof) -> None:
    names = ", ".join(name.removeprefix("channel 0: ") for name in proof.private_keys)
    console.print(Text(f"\nSearched for {len(proof.private_keys)} private keys: {names}"))
    for search in proof.searches:
        found = ", ".join(search.private_keys_found) or "none of them"
        controls = ", ".join(search.controls_found) or "nothing"
        console.print(
            Text(
                f"  {search.where}, {search.searched_bytes:,} bytes: {found}\n"
                f"    (the same search does find what the relay may know: {controls})"
            )
        )
    for place in proof.not_searched:
        console.print(Text(f"  not searched: {place}", "yellow"))
    console.print(Text(proof.sentence, "bold green" if proof.holds else "bold red"))


def _show_failure(console: Console, report: Report) -> None:
    console.print(plain(f"The demo failed: {report.failure}", style="bold red"))
    for line in report.log:
        console.print(plain(f"  {line}", style="dim"))

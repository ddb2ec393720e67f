"""`lightning-proxy demo`: the whole flow on this machine, and the proof about the keys."""

import asyncio
import signal
from collections.abc import Callable
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from lightning_proxy.bolt.address import parse
from lightning_proxy.bolt.errors import AddressError
from lightning_proxy.demo.proof import Proof
from lightning_proxy.demo.run import Demo, Report
from lightning_proxy.demo.steps import Step

_FAILED: Final = 1
_INTERRUPTED: Final = 130

_WHAT: Final = {
    "act_one": "the wallet's act one, passed on by the relay",
    "act_two": "the peer's answer, passed back",
    "act_three": "the wallet's proof of its node key; the relay now has the transport keys",
    "init_sent": "the relay speaks for the wallet",
    "init_received": "the peer's features",
    "ping": "are you there?",
    "pong": "yes",
    "open_channel": "the peer wants a channel",
    "delegated": "that needs keys: the wallet is asked",
    "answered": "public keys and limits, and no private key",
    "accept_channel": "the wallet's answer, as the peer expects it",
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
    json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> None:
    """Show the whole flow, and prove that no private key crossed the relay.

    Relay, peer and wallet run as processes of their own on this machine. What wallet and relay send
    each other is recorded; that, and on Linux the relay's memory, is then searched for each of the
    wallet's private keys. Exits with 1 unless each step came and nothing was found.
    """
    out = Console(highlight=False, soft_wrap=True)
    err = Console(highlight=False, soft_wrap=True, stderr=True)

    def show_step(step: Step) -> None:
        if not json:
            _show_step(out, step)

    def show_hint(sentence: str) -> None:
        # Stdout is for the one JSON object.
        (err if json else out).print(Text(f"\n{sentence}\n", "bold"))

    try:
        report = asyncio.run(_run(show_step, show_hint, peer, wait))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(_INTERRUPTED) from None
    if json:
        typer.echo(msgspec.json.encode(report).decode())
    elif report.proof is not None:
        _show_proof(out, report.proof)
    if not report.ok:
        _show_failure(err, report)
        raise typer.Exit(_FAILED)


async def _run(
    show_step: Callable[[Step], None],
    show_hint: Callable[[str], None],
    peer: str | None,
    wait: float,
) -> Report:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for the type checker: this runs in one
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await Demo(show_step, show_hint, peer=peer, wait=wait).run()


def _show_step(console: Console, step: Step) -> None:
    size = "" if step.bytes is None else f"{step.bytes:,} bytes"
    line = Text(f"{step.at_ms:9.1f} ms  ", "dim")
    line.append(f"{step.from_:>6} → {step.to:<6}  ", "default")
    line.append(f"{step.name:<15}", "bold cyan")
    line.append(f"{size:>12}   ", "default")
    line.append(_WHAT[step.name], "dim")
    console.print(line)


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
    console.print(Text(f"The demo failed: {report.failure}", "bold red"))
    for line in report.log:
        console.print(Text(f"  {line}", "dim"))

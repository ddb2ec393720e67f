"""How `lightning-proxy wallet` speaks: sentences for people, or JSON lines for programs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from lightning_proxy import tables
from lightning_proxy.terminal import plain
from lightning_proxy.wallet.answers import Answer
from lightning_proxy.wallet.errors import RelayError
from lightning_proxy.wallet.words import short, time_of


class Printer:
    """Results go to stdout, errors and hints to stderr.

    Relays and peers are strangers, so each line that is ours is an argument of its own: what they
    say begins none (`terminal.flat`).
    """

    def __init__(self, json: bool) -> None:
        self.json = json
        self._out = Console(highlight=False, soft_wrap=True)
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)

    def result(self, value: dict[str, Any], *lines: str) -> None:
        """One thing that happened."""
        if self.json:
            self.write(value)
        else:
            self._out.print(plain(*lines))

    def hint(self, *lines: str) -> None:
        """What the user may do better."""
        self._err.print(plain(*lines))

    def error(self, error: Exception) -> None:
        """Why the command failed."""
        if self.json:
            code = error.code if isinstance(error, RelayError) else type(error).__name__
            text = msgspec.json.encode({"error": {"code": code, "sentence": str(error)}}).decode()
            print(text, file=sys.stderr, flush=True)
        else:
            self._err.print(Text("Error: ", style="bold red") + plain(str(error)))

    def say(self, sentence: str) -> None:
        """For people alone."""
        self._out.print(plain(sentence))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
        """For people alone."""
        tables.show(self._out, columns, rows)

    def write(self, value: dict[str, Any]) -> None:
        """For programs alone."""
        print(msgspec.json.encode(value).decode(), flush=True)

    def wallet(self, node_id: bytes, file: Path, channels: int, latest: Sequence[Answer]) -> None:
        """A wallet and its record."""
        if self.json:
            self.write(
                {
                    "node_id": node_id.hex(),
                    "file": str(file),
                    "channels_accepted": channels,
                    "answers": [_answer(answer) for answer in latest],
                }
            )
            return
        self._out.print(plain(f"Node id   {node_id.hex()}"))
        self._out.print(plain(f"File      {file}"))
        self._out.print(plain(f"Channels  {channels} accepted"))
        rows: list[Sequence[str]] = []
        for answer in latest:
            outcome = (
                f"answered, for channel {answer.channel_index}"
                if answer.refusal is None
                else f"refused: {answer.refusal}"
            )
            rows.append((time_of(answer.created), short(answer.peer), answer.kind.value, outcome))
        if rows:
            self.table(("when", "peer", "question", "answer"), rows)


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "delegation_id": answer.delegation_id,
        "kind": answer.kind.value,
        "peer": answer.peer.hex(),
        "created": answer.created,
        "channel_index": answer.channel_index,
        "refusal": answer.refusal,
    }

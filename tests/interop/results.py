"""What the channel tests saw, for the tables at the end of the run."""

import json
from dataclasses import dataclass, field
from typing import Any

#: A row of a table: as many words as it has columns.
Row = tuple[str, ...]


def table(*rows: Row) -> list[str]:
    """Lines with their words in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


@dataclass
class Results:
    openings: list[Row] = field(default_factory=list)
    #: The peer's own lists of its channels with the wallet, as JSON.
    evidence: list[str] = field(default_factory=list)
    killings: list[Row] = field(default_factory=list)
    payments: list[Row] = field(default_factory=list)
    payment_killings: list[Row] = field(default_factory=list)

    def opened(
        self,
        peer: str,
        channel_type: str,
        direction: str,
        result: str,
        evidence: list[dict[str, Any]],
    ) -> None:
        """A channel that the peer's own list shows."""
        self.openings.append((peer, channel_type, direction, result))
        self.evidence.append(f"{peer}, {channel_type}, {direction}: {json.dumps(evidence)}")

    def killed(self, peer: str, victim: str, step: str, outcome: str) -> None:
        """An opening in whose middle somebody was killed."""
        self.killings.append((peer, victim, step, outcome))

    def paid(self, peer: str, channel_type: str, direction: str, what: str, result: str) -> None:
        """Payments as the peer's own list has them."""
        self.payments.append((peer, channel_type, direction, what, result))

    def killed_paying(
        self, peer: str, victim: str, direction: str, step: str, outcome: str
    ) -> None:
        """A payment in whose middle somebody was killed."""
        self.payment_killings.append((peer, victim, direction, step, outcome))

    def lines(self) -> list[str]:
        """All tables that have rows, and the evidence."""
        tables = (
            (("peer", "channel type", "direction", "result"), self.openings),
            (("peer", "killed", "at", "the opening"), self.killings),
            (
                ("peer", "channel type", "direction", "payments", "by the peer's list"),
                self.payments,
            ),
            (
                ("peer", "killed", "the wallet", "at", "by the peer's list"),
                self.payment_killings,
            ),
        )
        lines = []
        for head, rows in tables:
            if rows:
                lines += [*table(head, *rows), ""]
        if self.evidence:
            lines += ["as the peers themselves list their channels:", *self.evidence]
        return lines

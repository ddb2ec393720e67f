"""What the channel tests saw, for the tables at the end of the run."""

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Opening:
    peer: str
    channel_type: str
    direction: str
    result: str
    #: The peer's own list of its channels with the wallet, as JSON.
    evidence: str


@dataclass(frozen=True)
class Killing:
    peer: str
    victim: str
    step: str
    outcome: str


@dataclass
class Results:
    openings: list[Opening] = field(default_factory=list)
    killings: list[Killing] = field(default_factory=list)

    def opened(
        self,
        peer: str,
        channel_type: str,
        direction: str,
        result: str,
        evidence: list[dict[str, Any]],
    ) -> None:
        """A channel that the peer's own list shows."""
        self.openings.append(Opening(peer, channel_type, direction, result, json.dumps(evidence)))

    def killed(self, peer: str, victim: str, step: str, outcome: str) -> None:
        """An opening in whose middle somebody was killed."""
        self.killings.append(Killing(peer, victim, step, outcome))

    def lines(self) -> list[str]:
        """Both tables, and the evidence."""
        return [
            f"{'peer':5} {'channel type':17} {'direction':15} result",
            *(
                f"{row.peer:5} {row.channel_type:17} {row.direction:15} {row.result}"
                for row in self.openings
            ),
            "",
            "as the peers themselves list them:",
            *(
                f"{row.peer}, {row.channel_type}, {row.direction}: {row.evidence}"
                for row in self.openings
            ),
            "",
            f"{'peer':5} {'killed':7} {'at':37} the opening",
            *(
                f"{kill.peer:5} {kill.victim:7} {kill.step:37} {kill.outcome}"
                for kill in self.killings
            ),
        ]

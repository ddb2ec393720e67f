"""What a soak counted, and what it found wrong."""

from collections import Counter
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

#: Sentences that are kept; the counts go on.
_MOST: Final = 20


class Fault(StrEnum):
    """What must never happen."""

    LOST = "lost"
    DOUBLED = "doubled"
    REORDERED = "reordered"
    WRONG = "wrong"


@dataclass
class Tally:
    """Plain numbers, `faults` by kind, and a sentence for each of the first of them."""

    seed: int
    kills: int = 0
    killed_at_start: int = 0
    network_cuts: int = 0
    sessions: int = 0
    sessions_reported: int = 0
    sent: int = 0
    sent_and_stored: int = 0
    delivered: int = 0
    delivered_again: int = 0
    acknowledged: int = 0
    to_peers: int = 0
    offered: int = 0
    asked: int = 0
    answered: int = 0
    settled: int = 0
    accepted: int = 0
    accepted_by_slot: int = 0
    signed: int = 0
    reestablished: int = 0
    devices: int = 0
    taken_over: int = 0
    wakes: int = 0
    seconds: float = 0.0
    finished: bool = False
    faults: Counter[Fault] = field(default_factory=Counter)
    sentences: list[str] = field(default_factory=list)

    def found(self, fault: Fault, sentence: str, count: int = 1) -> None:
        """Something that must not be."""
        self.faults[fault] += count
        if len(self.sentences) < _MOST:
            self.sentences.append(f"{fault}: {sentence}")

    @property
    def is_good(self) -> bool:
        """Whether all went as it should."""
        return self.finished and not self.faults.total()

    def numbers(self) -> dict[str, int | float]:
        """What was counted, by name, the faults at the end."""
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            **{name: value for name, value in plain.items() if type(value) in (int, float)},
            **{fault.value: self.faults[fault] for fault in Fault},
        }

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {**self.numbers(), "finished": self.finished, "sentences": self.sentences}

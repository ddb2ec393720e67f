"""A wallet's side of a channel that moves, as far as the relay can tell: what it takes and says."""

from collections.abc import Sequence
from typing import Any

from lightning_proxy.bolt.channel.reestablish import reestablish_of
from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.messages import CommitmentSigned, Message, decode
from lightning_proxy.rpc import Fence
from tests.support.moving import Mover


class WalletSide:
    """Its record on one connection: `said` has all of it, where a real one keeps the latest."""

    def __init__(self, mover: Mover) -> None:
        self.mover = mover
        self.heard = 0
        self.said: list[bytes] = []

    @property
    def snapshot(self) -> Snapshot:
        return self.mover.snapshot

    def say(self, *messages: Message) -> list[bytes]:
        words = [self.mover.say(message) for message in messages]
        self.said += words
        return words

    def hear(self, fence: Fence, messages: Sequence[bytes]) -> None:
        """Take what is new of a question, and say what is owed for it."""
        for raw in messages[self.heard - fence.heard :]:
            self.mover.hear(raw)
            self.heard += 1
            if isinstance(decode(raw), CommitmentSigned):
                self.say(self.mover.revoke_and_ack())

    def commit(self) -> None:
        """Sign what is new, if that may be."""
        if self.snapshot.may_commit:
            self.say(self.mover.commitment_signed())

    def since(self, fence: Fence) -> tuple[int, list[bytes]]:
        """What answers the question with this fence."""
        return self.heard, self.said[fence.said :]

    def reconnect(self) -> dict[str, Any]:
        """The answer to `reestablish` on a new connection."""
        self.mover.disconnect()
        self.heard, self.said = 0, []
        snapshot = self.snapshot
        says = reestablish_of(snapshot, snapshot.role)
        self.mover.reconnect()
        return {
            "next_commitment_number": says.next_commitment_number,
            "next_revocation_number": says.next_revocation_number,
            "your_last_per_commitment_secret": says.your_last_per_commitment_secret.hex(),
            "my_current_per_commitment_point": says.my_current_per_commitment_point.hex(),
            "snapshot": snapshot.encode().hex(),
        }

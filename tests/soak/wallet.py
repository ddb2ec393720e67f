"""A wallet that comes, goes, sleeps and is woken, and believes nobody."""

import asyncio
import random
import secrets
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final

from coincurve import PrivateKey
from msgspec import structs

from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.messages import to_dict
from lightning_proxy.rpc import Reestablish
from lightning_proxy.transport.handshake import Initiator
from tests.soak.ledger import FROM_WALLET, Ledger, numbered
from tests.soak.link import Gone, Link, Refused, link
from tests.soak.notices import Held, Notices
from tests.soak.peers import Opener, Talker
from tests.support.opening import Side
from tests.support.relay import handshake_params

#: Sessions with the talker at a time.
_STREAMS: Final = 2
#: Devices that are let in at a time.
_DEVICES: Final = 2
#: Channels that its devices take from each other.
_LEASES: Final = 3
#: Key slots that wait at a time.
_SLOTS: Final = 3
#: Seconds: a push that does not come by then does not come.
_PATIENCE: Final = 60.0
_REESTABLISH: Final = tuple(field.name for field in structs.fields(Reestablish))
#: What the relay answers while a session or a peer comes and goes.
_PASSING: Final = (
    "peer_failed",
    "peer_timeout",
    "peer_unreachable",
    "session_state",
    "session_unknown",
    "limit",
)


class SoakWallet:
    """`live` runs until `finish` was called and all sessions' ends were told.

    `urls` are the relay's, by one network or another; `webhook` is where the wallet is woken.
    """

    def __init__(
        self, ledger: Ledger, rng: random.Random, urls: list[str], talker: Talker, webhook: str
    ) -> None:
        self.secret = secrets.token_bytes(32)
        self.node_id = PrivateKey(self.secret).public_key.format()
        self.notices = Notices(ledger)
        #: Set by a push.
        self.woken = asyncio.Event()
        #: The relay's own key, which signs pushes.
        self.relay_node_id = ""
        self._ledger = ledger
        self._rng = rng
        self._urls = urls
        self._talker = talker
        self._webhook = webhook
        self._is_finishing = False
        self._target = ""
        #: What this wallet answered, by the question's id: stored before it is given.
        self._answers: dict[str, dict[str, Any]] = {}
        #: This wallet's side of each channel, by its temporary id, and by the final one.
        self._sides: dict[str, Side] = {}
        #: Those of key slots, by funding_pubkey; and of the slots whose result arrived, by id.
        self._slot_sides: dict[str, Side] = {}
        self._slots: dict[str, str] = {}
        self._used_slots: dict[str, str] = {}
        #: Secrets of devices whose `add_device`'s result arrived, and of those that are out again.
        self._devices: list[bytes] = []
        self._revoked: list[bytes] = []
        self._is_device = False
        #: The last fencing number of each channel, by its temporary id.
        self._fencing: dict[str, int] = {}
        #: The channel of each question, and this wallet's `channel_ready` for each channel.
        self._channel_of: dict[str, str] = {}
        self._ready: dict[str, dict[str, Any]] = {}
        #: How many messages went to the peer, by session.
        self._spoken: dict[str, int] = {}
        self._streams: list[Held] = []
        self._opening: Held | None = None
        self._opener: Opener | None = None
        self._opener_stack = AsyncExitStack()
        self._tasks: set[asyncio.Task[None]] = set()

    async def live(self) -> None:
        """Come and go."""
        try:
            while not (self._is_finishing and self._is_all_told()):
                try:
                    async with link(self._rng.choice(self._urls), self._take) as connected:
                        self._link = connected
                        await self._come(connected)
                        await self._stay(connected)
                except Gone:
                    # Some come back at once, others sleep until they are woken.
                    await asyncio.sleep(self._rng.uniform(0, 0.1))
                except Refused as refusal:
                    if refusal.code not in _PASSING:
                        self._ledger.wrong(f"the relay refused: {refusal}")
                except TimeoutError:
                    self._ledger.wrong("the relay is there, and gave no answer")
                if not self._is_finishing and self._rng.random() < 0.6:
                    await self._sleep()
        finally:
            for task in self._tasks:
                task.cancel()
            await self._opener_stack.aclose()

    def finish(self) -> None:
        """Stay awake from now on, begin nothing, and leave when all was told."""
        self._is_finishing = True
        self.woken.set()

    def untold(self) -> list[str]:
        """Sessions whose end it was not told, and slots of whose use it was not."""
        return [
            *(f"the end of session {held.session_id}" for held in self._awaited()),
            *(f"slot_used for {point}" for point in self._unreported_slots()),
        ]

    # ---- coming, staying, sleeping ----

    async def _come(self, relay: Link) -> None:
        self.notices.connected()
        self.woken.clear()
        if self._revoked and self._rng.random() < 0.1:
            await self._come_as_revoked(relay)
        device = self._rng.choice((None, *self._devices))
        self._is_device = device is not None
        if device is None:
            result = await relay.authenticate(self.secret, self.node_id)
        else:
            result = await self._come_as(relay, device)
        self.relay_node_id = result["settings"]["relay_node_id"]
        for session in result["sessions"]:
            # The result of `connect` may never have arrived.
            if (
                session["session_id"] not in self.notices.sessions
                and session["state"] != "handshake"
            ):
                self._ledger.wrong("a session that is not this wallet's is listed")
        await self._check_what_was_promised(relay)

    async def _come_as(self, relay: Link, device: bytes) -> dict[str, Any]:
        try:
            return await relay.authenticate_device(device, self.node_id)
        except Refused as refusal:
            self._ledger.lost(f"a device: {refusal}")
            raise

    async def _come_as_revoked(self, relay: Link) -> None:
        """Which must not work; raises `Gone`, because whoever tries is put out."""
        try:
            await relay.authenticate_device(self._rng.choice(self._revoked), self.node_id)
        except Refused:
            raise Gone("as it should be") from None
        self._ledger.lost("the revocation of a device")
        raise Gone("as it should not be")

    async def _check_what_was_promised(self, relay: Link) -> None:
        targets = [target["target_id"] for target in await relay.call("wake_targets")]
        if self._target and targets != [self._target]:
            self._ledger.lost(f"the wake target: {targets}")
        if not self._target:
            registered = await relay.call("wake_by_webhook", url=self._webhook)
            self._target = registered["target_id"]
        held = set(self._ledger.held.get(self.node_id, ()))
        stored = {channel["channel_id"] for channel in await relay.call("channels")}
        for channel_id in held:
            if channel_id.hex() not in stored:
                self._ledger.lost(f"the channel {channel_id.hex()}")
        slots = {slot["slot_id"]: slot for slot in await relay.call("slots")}
        for slot_id, funding_pubkey in self._slots.items():
            # Of the used ones the relay lists the last.
            if slot_id not in self._used_slots and slot_id not in slots:
                self._ledger.lost(f"the key slot {slot_id} with {funding_pubkey}")

    async def _stay(self, relay: Link) -> None:
        until = asyncio.get_running_loop().time() + self._rng.uniform(0.05, 1.5)
        while not relay.ended.is_set():
            await self._act(relay)
            if self._is_finishing:
                await self._acknowledge(relay)
                if self._is_all_told():
                    return
            elif asyncio.get_running_loop().time() > until:
                return
            await asyncio.sleep(self._rng.uniform(0.005, 0.05))

    async def _act(self, relay: Link) -> None:
        """One thing, whichever is next."""
        self._streams = [held for held in self._streams if not held.ended]
        dice = self._rng.random()
        if self._is_finishing:
            return
        if len(self._streams) < _STREAMS:
            await self._stream(relay)
        elif self._opening is None or self._opening.ended:
            await self._let_open(relay)
        elif len(self._slots) - len(self._used_slots) < _SLOTS and dice < 0.3:
            await self._leave_slot(relay)
        elif dice < 0.35 and not self._is_device:
            await self._change_devices(relay)
        elif dice < 0.6:
            await self._acknowledge(relay)
        elif dice < 0.9:
            await self._speak(relay, self._rng.choice(self._streams))
        elif held := sorted(self._ledger.held.get(self.node_id, ())):
            await self._lease(relay, self._rng.choice(held[-_LEASES:]).hex())

    async def _sleep(self) -> None:
        """Until a push: there is one, because peers talk and sessions get lost."""
        if not self._target or not any(not held.ended for held in self._streams):
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                await self.woken.wait()
        except TimeoutError:
            self._ledger.wrong("a wallet for which something waits was not woken")
        # Whoever is woken may take its time: the relay is killed with much that waits, too.
        if not self._is_finishing:
            await asyncio.sleep(self._rng.uniform(0, self._rng.choice((0.2, 2.0))))

    # ---- what it asks for ----

    async def _acknowledge(self, relay: Link) -> None:
        position = self.notices.position
        if position > self.notices.acknowledged:
            await relay.call("acknowledge", position=position)
            self.notices.acknowledge(position)

    async def _session(self, relay: Link, address: str, node_id: bytes) -> Held:
        initiator = Initiator(self.secret, node_id)
        connected = await relay.call("connect", peer=address, act_one=initiator.act_one().hex())
        held = Held(connected["session_id"])
        self.notices.sessions[held.session_id] = held
        await relay.call("handshake", **handshake_params(initiator, connected))
        held.is_established = True
        self._ledger.tally.sessions += 1
        return held

    async def _stream(self, relay: Link) -> None:
        held = await self._session(relay, self._talker.address, self._talker.node_id)
        await relay.call("subscribe", session_id=held.session_id, raw=True)
        self._spoken[held.session_id] = 0
        # The first one is the hello.
        await self._speak(relay, held)
        self._streams.append(held)

    async def _speak(self, relay: Link, held: Held) -> None:
        number = self._spoken[held.session_id]
        self._spoken[held.session_id] += 1
        message = numbered(FROM_WALLET, held.session_id, number)
        self._ledger.unsure.add((held.session_id, number))
        await relay.call("send", session_id=held.session_id, message=message.hex())
        self._ledger.unsure.discard((held.session_id, number))

    async def _let_open(self, relay: Link) -> None:
        """A session with a peer that opens channels: a fresh one, or one that has some."""
        opener = self._opener
        if opener is None or not opener.has_channels or self._rng.random() < 0.3:
            await self._opener_stack.aclose()
            opener = self._opener = Opener(self._ledger, self._rng, self.node_id)
            await self._opener_stack.enter_async_context(opener.serve())
        self._opening = await self._session(relay, opener.address, opener.node_id)

    async def _change_devices(self, relay: Link) -> None:
        """Let one in, or put one out."""
        if len(self._devices) < _DEVICES:
            secret = secrets.token_bytes(32)
            device_key = PrivateKey(secret).public_key.format().hex()
            rights = ["see", "answer", "connect"]
            await relay.call("add_device", device_key=device_key, name="one", rights=rights)
            self._devices.append(secret)
            self._ledger.tally.devices += 1
        elif self._rng.random() < 0.2:
            # Whether it is out is known with the result only.
            secret = self._devices.pop()
            device_key = PrivateKey(secret).public_key.format().hex()
            await relay.call("revoke_device", device_key=device_key)
            self._revoked.append(secret)

    async def _leave_slot(self, relay: Link) -> None:
        side = Side(Role.ACCEPTER)
        answer = side.channel_keys()
        del answer["channel_type"]
        funding_pubkey = answer["funding_pubkey"]
        self._slot_sides[funding_pubkey] = side
        self._ledger.slots.add(bytes.fromhex(funding_pubkey))
        policy = {"max_funding_sat": 10_000_000}
        (slot,) = await relay.call("add_slots", slots=[{"answer": answer, "policy": policy}])
        self._slots[slot["slot_id"]] = funding_pubkey

    # ---- what it is told and asked ----

    def _take(self, body: dict[str, Any]) -> None:
        match body["method"]:
            case "delegate":
                self._answer(body["params"])
            case "rejected":
                self._rejected(body["params"])
            case "voided" if not body["params"]["position"]:
                # An answer on the connection before this one was faster than its end.
                pass
            case _:
                if self.notices.take(body) and body["method"] == "slot_used":
                    self._slot_used(body["params"])

    def _rejected(self, rejected: dict[str, Any]) -> None:
        if rejected["code"] == "lease_held":
            self._start(self._take_over(self._link, rejected["id"]))
        elif rejected["code"] not in ("delegation_over", "delegation_unknown"):
            self._ledger.wrong(f"an answer was rejected: {rejected['reason']}")

    async def _take_over(self, relay: Link, question_id: str) -> None:
        """Another of this wallet's devices settles for that channel: from now on it is this one."""
        channel_id = self._channel_of[question_id]
        try:
            await self._lease(relay, channel_id)
            await self._say(relay, question_id)
        except (Gone, Refused, TimeoutError):
            # The relay, or the channel, is gone.
            return

    async def _lease(self, relay: Link, channel_id: str) -> None:
        lease = await relay.call("take_over", channel_id=channel_id)
        side = self._sides.get(channel_id)
        name = channel_id if side is None else side.channel.temporary_channel_id.hex()
        if lease["fencing"] <= self._fencing.get(name, 0):
            self._ledger.doubled(f"the fencing number {lease['fencing']} of {name}")
        self._fencing[name] = lease["fencing"]
        self._ledger.tally.taken_over += 1

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _answer(self, question: dict[str, Any]) -> None:
        self._ledger.tally.asked += 1
        self._channel_of[question["id"]] = question["channel_id"]
        if question["id"] not in self._answers:
            try:
                answer = self._decide(question)
            except (BoltError, KeyError) as error:
                self._ledger.wrong(f"{question['kind']}: {error!r}")
                return
            self._answers[question["id"]] = answer
        self._start(self._say(self._link, question["id"]))

    async def _say(self, relay: Link, question_id: str) -> None:
        await asyncio.sleep(self._rng.choice((0.0, 0.0, 0.05)))
        try:
            await relay.send({"id": question_id, **self._answers[question_id]})
        except Gone:
            return
        self._ledger.tally.answered += 1

    def _decide(self, question: dict[str, Any]) -> dict[str, Any]:
        channel_id: str = question["channel_id"]
        raw = bytes.fromhex(question["messages"][-1]) if question["messages"] else b""
        match question["kind"]:
            case "channel_keys":
                return self._keys(channel_id, raw)
            case "funding_signed":
                side = self._sides[channel_id]
                # Which checks the peer's signature.
                side.hear(raw)
                signed = side.funding_signed()
                side.say(signed)
                self._sides[signed.channel_id.hex()] = side
                self._ledger.signed[signed.channel_id] = signed.encode()
                return {"result": {"signature": signed.signature.hex()}}
            case "channel_ready":
                if channel_id not in self._ready:
                    side = self._sides[channel_id]
                    side.confirm()
                    ready = side.channel_ready()
                    side.say(ready)
                    point = ready.second_per_commitment_point.hex()
                    self._ready[channel_id] = {"result": {"second_per_commitment_point": point}}
                return self._ready[channel_id]
            case "reestablish":
                numbers = to_dict(self._sides[channel_id].channel.reestablish())
                return {"result": {name: numbers[name] for name in _REESTABLISH if name in numbers}}
        self._ledger.wrong(f"an unknown question: {question['kind']}")
        return _refusal("what is that?")

    def _keys(self, channel_id: str, raw: bytes) -> dict[str, Any]:
        temporary_id = bytes.fromhex(channel_id)
        if self._ledger.offers.get(temporary_id) != raw:
            self._ledger.wrong("an open_channel that no peer sent")
        if channel_id in self._sides:
            self._ledger.doubled("an open_channel that was asked about by another question")
        if self._rng.random() < 0.1:
            return _refusal("not today")
        side = self._sides[channel_id] = Side(Role.ACCEPTER)
        side.hear(raw)
        keys = side.channel_keys()
        self._ledger.promised[temporary_id] = side.say(side.accept_channel())
        return {"result": keys}

    def _slot_used(self, used: dict[str, Any]) -> None:
        channel_id = used["channel_id"]
        accept = bytes.fromhex(used["accept_channel"])
        known = self._slots.get(used["slot_id"])
        candidates = [known] if known else list(self._slot_sides)
        matching = [point for point in candidates if bytes.fromhex(point) in accept]
        if len(matching) != 1:
            self._ledger.wrong("a slot_used whose accept_channel is of no key slot")
            return
        (funding_pubkey,) = matching
        # The result of `add_slots` may never have arrived.
        self._slots.setdefault(used["slot_id"], funding_pubkey)
        if self._used_slots.setdefault(used["slot_id"], channel_id) != channel_id:
            self._ledger.doubled("a key slot that was used for two channels")
            return
        if channel_id in self._sides:
            return
        side = self._sides[channel_id] = self._slot_sides[funding_pubkey]
        side.hear(bytes.fromhex(used["open_channel"]))
        if side.say(side.accept_channel()) != accept:
            self._ledger.wrong("an accept_channel that is not what the key slot says")
        if self._ledger.accepted.get(bytes.fromhex(channel_id), accept) != accept:
            self._ledger.wrong("the peer got another accept_channel than slot_used tells")

    # ---- the end ----

    def _awaited(self) -> list[Held]:
        return [
            held
            for held in self.notices.sessions.values()
            if held.is_established and not held.ended
        ]

    def _unreported_slots(self) -> list[str]:
        used = {self._slots[slot_id] for slot_id in self._used_slots}
        return [
            point
            for point in self._slot_sides
            if bytes.fromhex(point) in self._ledger.funding_pubkeys and point not in used
        ]

    def _is_all_told(self) -> bool:
        return not self.untold()


def _refusal(reason: str) -> dict[str, Any]:
    return {"error": {"code": -32010, "message": reason}}

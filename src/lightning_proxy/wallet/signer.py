"""Who answers delegations: the `Signer` protocol, and the signer that holds keys and a policy."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Final, Protocol, TypeAlias

import msgspec

from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.messages import AcceptChannel, OpenChannel
from lightning_proxy.bolt.opening import (
    MINIMUM_DUST_LIMIT_SAT,
    check_accept_channel,
    check_open_channel,
)
from lightning_proxy.rpc import ChannelKeys
from lightning_proxy.wallet.keys import ChannelPoints, WalletKeys
from lightning_proxy.wallet.policy import Policy
from lightning_proxy.wallet.record import Answer, Record
from lightning_proxy.wallet.request import ChannelKeysRequest, Refusal

#: Asked when the policy says "by hand": yes or no, at leisure.
Approve: TypeAlias = Callable[[ChannelKeysRequest], Awaitable[bool]]

_HTLC_MINIMUM_MSAT: Final = 1
#: BOLT #2 suggests a reserve of one percent of the funding.
_RESERVE_DIVISOR: Final = 100
_DAY: Final = 86_400.0


class Signer(Protocol):
    """One method for each kind of delegation.

    The same delegation may come again after a connection broke: a signer stores its answer before
    it returns, and returns the same one each time. It raises `Refusal` to say no; any other
    exception leaves the delegation open, unanswered.
    """

    async def channel_keys(self, request: ChannelKeysRequest) -> ChannelKeys:
        """The keys and limits for a channel that a peer wants to open."""


class KeySigner:
    """Checks BOLT 2, then the policy, then asks `approve` where the policy wants that.

    Raises `ValueError` for a policy that wants approval by hand without somebody to ask.
    """

    def __init__(
        self, keys: WalletKeys, policy: Policy, record: Record, approve: Approve | None = None
    ) -> None:
        if policy.approve_by_hand and approve is None:
            raise ValueError("the policy wants approval by hand, and nobody is there to ask")
        self._keys = keys
        self._policy = policy
        self._record = record
        self._approve = approve

    async def channel_keys(self, request: ChannelKeysRequest) -> ChannelKeys:
        """Fresh keys, stored before they are returned; raises `Refusal`, `RecordError`."""
        answer = await self._record.find(request.delegation_id)
        if answer is None:
            answer = await self._decide(request)
        return _repeat(answer, request)

    async def _decide(self, request: ChannelKeysRequest) -> Answer:
        try:
            await self._judge(request)
            return await self._record.answer(
                request, lambda index: msgspec.json.encode(self._make_answer(request, index))
            )
        except BoltError as error:
            return await self._record.refuse(request, str(error))
        except Refusal as refusal:
            return await self._record.refuse(request, refusal.reason)

    async def _judge(self, request: ChannelKeysRequest) -> None:
        check_open_channel(request.open_channel)
        self._policy.check(request)
        accepted = await self._record.channels_since(time.time() - _DAY)
        if accepted >= self._policy.max_channels_a_day:
            raise Refusal("this node accepts no more channels today")
        if (
            self._policy.approve_by_hand
            and self._approve is not None
            and not await self._approve(request)
        ):
            raise Refusal("the owner of this node declined the channel")

    def _make_answer(self, request: ChannelKeysRequest, index: int) -> ChannelKeys:
        accept = _accept_channel(
            request.open_channel,
            self._keys.channel(index).points(),
            self._policy,
            self._policy.depth(request),
        )
        check_accept_channel(request.open_channel, accept)
        return _channel_keys(accept)


def _repeat(answer: Answer, request: ChannelKeysRequest) -> ChannelKeys:
    """The stored answer, if it was this very question's."""
    if answer.digest != request.digest:
        raise Refusal("this delegation's id was used before, for another question")
    if answer.answer is None:
        raise Refusal(answer.refusal or "")
    return msgspec.json.decode(answer.answer, type=ChannelKeys)


def _accept_channel(
    wanted: OpenChannel, points: ChannelPoints, policy: Policy, depth: int
) -> AcceptChannel:
    return AcceptChannel(
        temporary_channel_id=wanted.temporary_channel_id,
        dust_limit_satoshis=MINIMUM_DUST_LIMIT_SAT,
        max_htlc_value_in_flight_msat=1000 * wanted.funding_satoshis,
        # BOLT #2: the reserve must be no dust to the opener.
        channel_reserve_satoshis=max(
            wanted.funding_satoshis // _RESERVE_DIVISOR, wanted.dust_limit_satoshis
        ),
        htlc_minimum_msat=_HTLC_MINIMUM_MSAT,
        minimum_depth=depth,
        to_self_delay=policy.to_self_delay,
        max_accepted_htlcs=policy.max_accepted_htlcs,
        **asdict(points),
        # BOLT #2: the type of open_channel, or none where it named none.
        channel_type=wanted.channel_type,
    )


def _channel_keys(accept: AcceptChannel) -> ChannelKeys:
    channel_type = accept.channel_type
    return ChannelKeys(
        funding_pubkey=accept.funding_pubkey.hex(),
        revocation_basepoint=accept.revocation_basepoint.hex(),
        payment_basepoint=accept.payment_basepoint.hex(),
        delayed_payment_basepoint=accept.delayed_payment_basepoint.hex(),
        htlc_basepoint=accept.htlc_basepoint.hex(),
        first_per_commitment_point=accept.first_per_commitment_point.hex(),
        dust_limit_sat=accept.dust_limit_satoshis,
        max_htlc_value_in_flight_msat=accept.max_htlc_value_in_flight_msat,
        channel_reserve_sat=accept.channel_reserve_satoshis,
        htlc_minimum_msat=accept.htlc_minimum_msat,
        minimum_depth=accept.minimum_depth,
        to_self_delay=accept.to_self_delay,
        max_accepted_htlcs=accept.max_accepted_htlcs,
        channel_type=None if channel_type is None else channel_type.hex(),
    )

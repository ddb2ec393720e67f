"""What happened to a wallet, as JSON and in words."""

from typing import Any, Final

import msgspec

from lightning_proxy.bolt.features import Features
from lightning_proxy.bolt.messages import to_dict
from lightning_proxy.rpc import (
    DelegationKind,
    FundingRefused,
    LeaseLost,
    Rejected,
    SessionLost,
    SlotUsed,
    Voided,
)
from lightning_proxy.wallet.events import (
    Answered,
    ChannelOpened,
    ChannelProblem,
    DelegationReceived,
    Disconnected,
    Event,
    FundingChange,
    FundingChanged,
    FundingNotTaken,
    MessageReceived,
    PeerConnected,
    PeerUnreachable,
    Reconnected,
    RecordOutdated,
    Refused,
    SessionClosed,
)
from lightning_proxy.wallet.request import (
    ChannelKeysRequest,
    FundingCreatedRequest,
    FundingSignedRequest,
    Request,
)
from lightning_proxy.wallet.words import sat, short, time_of

_ASKED: Final = {
    DelegationKind.FUNDING_CREATED: "{peer} accepts the channel: it is to be funded",
    DelegationKind.FUNDING_SIGNED: "{peer} has funded the channel and signed: our signature is due",
    DelegationKind.FUNDING_TRANSACTION: "{peer} has signed: the funding transaction may be sent",
    DelegationKind.CHANNEL_READY: "The funding of the channel with {peer} is deep enough, says the "
    "relay",
    DelegationKind.REESTABLISH: "Connected to {peer} again: where does our channel stand?",
    DelegationKind.UNKNOWN_CHANNEL: "{peer} goes on with a channel that the relay doesn't have",
}
_ANSWERED: Final = {
    DelegationKind.CHANNEL_KEYS: "Accepted the channel of {peer}",
    DelegationKind.FUNDING_CREATED: "Signed for the funding of the channel with {peer}",
    DelegationKind.FUNDING_SIGNED: "Signed the first commitment of {peer}",
    DelegationKind.FUNDING_TRANSACTION: "Released the funding transaction of the channel with "
    "{peer}",
    DelegationKind.CHANNEL_READY: "Our side of the channel with {peer} is ready",
    DelegationKind.REESTABLISH: "Told {peer} where our channel stands",
    DelegationKind.UNKNOWN_CHANNEL: "This wallet has that channel with {peer}",
}
#: What an owner is to know whose record lacks something.
OLD_COPY: Final = (
    "THIS WALLET'S RECORD MAY BE AN OLD COPY. Do not close the channel from it: that would forfeit "
    "its funds. Bring back the latest record."
)
_FUNDING: Final = {
    FundingChange.SEEN: "waits for confirmations",
    FundingChange.CONFIRMED: "is confirmed",
    FundingChange.GONE: "IS GONE from the chain: a reorganisation took it",
    FundingChange.SPENT: "WAS SPENT: the channel is being closed on the chain",
    FundingChange.DIFFERS: "IS NOT WHAT WAS AGREED",
}


def describe(event: Event) -> tuple[dict[str, Any], list[str]]:
    """An event as JSON, and in words: lines, of which none begins in what a stranger said."""
    value: dict[str, Any]
    match event:
        case DelegationReceived(request):
            return _request(request)
        case Answered(request, answer):
            value = {
                "event": "answered",
                **_about(request),
                "answer": msgspec.to_builtins(answer),
            }
            sentence = _ANSWERED[request.kind].format(peer=short(request.peer)) + "."
        case Refused(delegation_id, reason):
            value = {"event": "refused", "delegation_id": delegation_id, "reason": reason}
            sentence = f"Refused: {reason}."
        case Voided(id=delegation_id, reason=reason):
            value = {"event": "voided", "delegation_id": delegation_id, "reason": reason}
            sentence = f"No answer is needed any more: {reason}."
        case Rejected(id=delegation_id, code=code, reason=reason):
            value = {"event": "rejected", "delegation_id": delegation_id, "code": code}
            value["reason"] = reason
            sentence = f"The relay did not take the answer: {reason}"
        case SessionClosed(session_id, reason):
            value = {"event": "session_closed", "session_id": session_id, "reason": reason}
            sentence = f"Session {session_id} is over: {reason}."
        case MessageReceived(session_id, received):
            value = {
                "event": "message",
                "session_id": session_id,
                "sequence": received.sequence,
                "raw": received.raw.hex(),
                "message": None if received.message is None else to_dict(received.message),
            }
            size = len(received.raw)
            sentence = f"Session {session_id}: the peer sent {received.name} ({size} bytes)."
        case Disconnected(reason):
            value = {"event": "disconnected", "reason": reason}
            sentence = f"The relay is gone: {reason}. Trying again."
        case Reconnected():
            value = {"event": "reconnected"}
            sentence = "The relay is there again."
        case SessionLost() | SlotUsed() | LeaseLost():
            return _while_away(event)
        case _:
            return _about_a_channel(event)
    return value, [sentence]


def _while_away(event: SessionLost | SlotUsed | LeaseLost) -> tuple[dict[str, Any], list[str]]:
    value: dict[str, Any]
    match event:
        case SessionLost(session_id=session_id, peer=address):
            value = {"event": "session_lost", "session_id": session_id, "peer": address}
            sentence = f"The relay was restarted: {address} has to be connected to again."
        case LeaseLost(channel_id=channel_id, fencing=fencing):
            value = {"event": "lease_lost", "channel_id": channel_id, "fencing": fencing}
            sentence = f"Another device of this wallet's took channel {channel_id[:12]}… over."
        case SlotUsed(slot_id=slot_id, peer=peer):
            value = {"event": "slot_used", "slot_id": slot_id, "peer": peer}
            value["channel_id"] = event.channel_id
            sentence = f"A channel of {peer[:12]}… was accepted with key slot {slot_id}."
    return value, [sentence]


def _about_a_channel(
    event: FundingChanged
    | FundingNotTaken
    | FundingRefused
    | ChannelOpened
    | ChannelProblem
    | RecordOutdated
    | PeerConnected
    | PeerUnreachable,
) -> tuple[dict[str, Any], list[str]]:
    value: dict[str, Any]
    match event:
        case FundingChanged(channel_id, change, confirmations, detail):
            value = {"event": "funding", "channel_id": channel_id.hex(), "change": change.value}
            value |= {"confirmations": confirmations, "detail": detail}
            sentence = f"The funding of channel {short(channel_id)} {_FUNDING[change]}"
            sentence += f": {detail}." if detail else "."
        case FundingNotTaken(channel_id, reason, final):
            sentence = _not_taken("This wallet's chain source", short(channel_id), reason, final)
            value = {"event": "funding_refused", "channel_id": channel_id.hex()}
            value |= {"by": "wallet", "reason": reason, "final": final}
        case FundingRefused(channel_id=id_, reason=reason, final=final):
            sentence = _not_taken(
                "The relay's chain source", short(bytes.fromhex(id_)), reason, final
            )
            value = {"event": "funding_refused", "channel_id": id_}
            value |= {"by": "relay", "reason": reason, "final": final}
        case ChannelOpened(channel_id, peer):
            value = {"event": "channel_opened", "channel_id": channel_id.hex(), "peer": peer.hex()}
            sentence = f"Channel {channel_id.hex()} with {short(peer)} is open."
        case ChannelProblem(channel_id, peer, reason, state_lost):
            value = {"event": "problem", "channel_id": channel_id.hex(), "peer": peer.hex()}
            value |= {"reason": reason, "state_lost": state_lost}
            return value, [
                f"NOT AS IN THE RECORD: channel {short(channel_id)}, {short(peer)}: {reason}.",
                *([OLD_COPY] if state_lost else ()),
            ]
        case RecordOutdated(reason):
            value = {"event": "record_outdated", "reason": reason}
            return value, [f"NOT IN THE RECORD: {reason}.", OLD_COPY]
        case PeerConnected(session_id, peer):
            value = {"event": "peer_connected", "session_id": session_id, "peer": peer.hex()}
            sentence = f"Connected to {short(peer)} again, as session {session_id}."
        case PeerUnreachable(peer, reason):
            value = {"event": "peer_unreachable", "peer": peer.hex(), "reason": reason}
            sentence = f"{short(peer)} can't be reached: {reason} Trying again."
    return value, [sentence]


def _not_taken(who: str, channel_id: str, reason: str, final: bool) -> str:
    hope = "IT NEVER WILL TAKE IT" if final else "It is tried again with each block"
    return f"{who} refuses the funding transaction of channel {channel_id}: {reason}. {hope}."


def _request(request: Request) -> tuple[dict[str, Any], list[str]]:
    value = {"event": "delegation", **_about(request), "deadline": request.deadline}
    match request:
        case ChannelKeysRequest():
            value["open_channel"] = to_dict(request.open_channel)
            return value, _wish(request)
        case FundingCreatedRequest():
            value["accept_channel"] = to_dict(request.accept_channel)
        case FundingSignedRequest():
            value["funding_created"] = to_dict(request.funding_created)
    return value, [_ASKED[request.kind].format(peer=short(request.peer)) + "."]


def _about(request: Request) -> dict[str, Any]:
    return {
        "kind": request.kind.value,
        "delegation_id": request.delegation_id,
        "session_id": request.session_id,
        "peer": request.peer.hex(),
        "channel_id": request.channel_id.hex(),
    }


def _wish(request: ChannelKeysRequest) -> list[str]:
    wanted = request.open_channel
    visibility = "public" if request.is_public else "private"
    # BOLT #3: feerates count units of weight, of which four are a virtual byte.
    sat_per_vbyte = wanted.feerate_per_kw * 4 / 1000
    channel_type = (
        "none named"
        if wanted.channel_type is None
        else str(Features.from_bytes(wanted.channel_type))
    )
    return [
        f"Node {request.peer.hex()} wants to open a {visibility} channel on {request.chain}:",
        f"  amount   {wanted.funding_satoshis:,} sat",
        f"  pushes   {sat(wanted.push_msat)} sat to this wallet",
        f"  type     {channel_type}",
        f"  feerate  {wanted.feerate_per_kw} sat/kw ({sat_per_vbyte:.1f} sat/vB)",
        f"  answer before {time_of(request.deadline)}",
    ]

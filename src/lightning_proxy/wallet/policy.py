"""Which channels a wallet accepts: the owner's rules, immutable."""

from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.bolt.messages import AcceptChannel, OpenChannel
from lightning_proxy.bolt.opening import LARGE_CHANNEL_SAT, MAXIMUM_TO_SELF_DELAY
from lightning_proxy.rpc.integers import Amount
from lightning_proxy.rpc.types import NodeId
from lightning_proxy.wallet.errors import PolicyError
from lightning_proxy.wallet.request import ChannelKeysRequest, Refusal, chain_of

_MAX_FILE_SIZE: Final = 65536
#: Blocks until a funding transaction counts as final; where blocks are made at will, one is enough.
_DEFAULT_DEPTH: Final = 3
_DEPTHS: Final = {"simnet": 1, "regtest": 1}
#: What the peer makes us keep may be a fifth of the channel at most, as in lnd: that much of it
#: could never be spent.
_MAX_RESERVE_DIVISOR: Final = 5

ChannelType = Literal["static_remotekey", "anchors"]
Visibility = Literal["public", "private"]

#: BOLT #2: a channel type is its features' even bits.
CHANNEL_TYPES: Final[dict[ChannelType, frozenset[int]]] = {
    "static_remotekey": frozenset({Feature.OPTION_STATIC_REMOTEKEY}),
    "anchors": frozenset({Feature.OPTION_STATIC_REMOTEKEY, Feature.OPTION_ANCHORS}),
}


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rules, for what peers ask and for what they answer.

    What BOLT 2 asks of every node is not repeated here.
    """

    chains: tuple[str, ...] = ("bitcoin",)
    min_funding_sat: Amount = 20_000
    max_funding_sat: Amount = LARGE_CHANNEL_SAT - 1
    #: None: up to the whole funding.
    max_push_msat: Amount | None = None
    #: Satoshis for 1,000 units of weight; 25,000 are 100 sat/vB.
    max_feerate_per_kw: Amount = 25_000
    #: The only peers that may open a channel; None: any.
    peers: frozenset[NodeId] | None = None
    channel_types: tuple[ChannelType, ...] = ("static_remotekey", "anchors")
    #: Whether a peer may leave the type out, as those do that negotiate none.
    allow_no_channel_type: bool = True
    allow_scid_alias: bool = True
    #: Without confirmations the opener can take the funding back.
    allow_zeroconf: bool = False
    #: Of the two, only private channels are ever accepted: none is announced yet.
    visibility: tuple[Visibility, ...] = ("public", "private")
    #: Blocks; None: 3, and 1 where blocks are made at will (simnet, regtest).
    minimum_depth: Annotated[int, Meta(ge=1, le=1000)] | None = None
    max_accepted_htlcs: Annotated[int, Meta(ge=5, le=483)] = 483
    #: Blocks that the peer waits for its own funds after closing alone.
    to_self_delay: Annotated[int, Meta(ge=1, le=2016)] = 144
    #: Channels accepted in 24 hours; also bounds what strangers can make the wallet's record grow.
    max_channels_a_day: Annotated[int, Meta(ge=0, le=100_000)] = 100
    #: Blocks that a peer may make us wait for our own funds after closing alone.
    max_to_self_delay: Annotated[int, Meta(ge=1, le=MAXIMUM_TO_SELF_DELAY)] = MAXIMUM_TO_SELF_DELAY
    #: What is below a side's dust limit goes to miners when it closes alone; lnd allows its peers
    #: three times the least possible, too.
    max_dust_limit_sat: Amount = 1_062
    #: Blocks that a peer may make us wait when we open; LDK's limit too.
    max_minimum_depth: Annotated[int, Meta(ge=0, le=1000)] = 144
    #: A wallet without a chain source of its own can't know whether a funding transaction is
    #: confirmed, nor that it is there at all.
    trust_relay_for_confirmations: bool = True
    #: Nor, with that, whether what a peer pushed is there: as long as no chain source of its own
    #: shows the funding, it counts as ours only where the owner says so.
    trust_relay_for_push: bool = False
    approve_by_hand: bool = False

    def __post_init__(self) -> None:
        for chain in self.chains:
            if chain not in CHAIN_HASHES:
                raise ValueError(f"{chain!r} is no chain; write one of {', '.join(CHAIN_HASHES)}")
        if self.min_funding_sat > self.max_funding_sat:
            raise ValueError("min_funding_sat is above max_funding_sat")

    @classmethod
    def load(cls, path: Path) -> "Policy":
        """Read a TOML file with these fields; raises `PolicyError`."""
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_FILE_SIZE + 1)
        except OSError as error:
            raise PolicyError(f"{path} can't be read: {error.strerror}.") from None
        if len(data) > _MAX_FILE_SIZE:
            raise PolicyError(f"{path} is no policy: it is too long.")
        try:
            return msgspec.toml.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise PolicyError(f"{path} is no policy: {error}.") from None

    def check(self, request: ChannelKeysRequest) -> None:
        """Raises `Refusal` with a sentence for the peer's operator."""
        wanted = request.open_channel
        if request.chain not in self.chains:
            raise Refusal(f"channels on {request.chain} are not accepted")
        if self.peers is not None and request.peer.hex() not in self.peers:
            raise Refusal("this node accepts channels from chosen peers only")
        if not self.min_funding_sat <= wanted.funding_satoshis <= self.max_funding_sat:
            raise Refusal(
                f"funding_satoshis {wanted.funding_satoshis} is not within "
                f"{self.min_funding_sat} to {self.max_funding_sat}"
            )
        if self.max_push_msat is not None and wanted.push_msat > self.max_push_msat:
            raise Refusal(f"push_msat {wanted.push_msat} is above {self.max_push_msat}")
        if wanted.feerate_per_kw > self.max_feerate_per_kw:
            raise Refusal(
                f"feerate_per_kw {wanted.feerate_per_kw} is above {self.max_feerate_per_kw}"
            )
        if request.is_public:
            # The peer would take for public what nobody ever hears of.
            raise Refusal(
                "public channels are not accepted: this node announces none; make it private"
            )
        if "private" not in self.visibility:
            raise Refusal("private channels are not accepted")
        self._check_channel_type(wanted.channel_type)
        self._check_limits(wanted, wanted.funding_satoshis)

    def check_answer(self, wanted: OpenChannel, answer: AcceptChannel) -> None:
        """What a peer answered to our `open_channel`; raises `Refusal`."""
        if answer.minimum_depth > self.max_minimum_depth:
            raise Refusal(
                f"minimum_depth {answer.minimum_depth} is above {self.max_minimum_depth} blocks"
            )
        self._check_limits(answer, wanted.funding_satoshis)

    def depth(self, wanted: OpenChannel) -> int:
        """`minimum_depth` for this channel, in blocks."""
        # BOLT #2: a channel of the type option_zeroconf has none.
        if Features.from_bytes(wanted.channel_type or b"").requires(Feature.OPTION_ZEROCONF):
            return 0
        return self.depth_on(chain_of(wanted))

    def depth_on(self, chain: str) -> int:
        """The same for a chain by its name, for every channel that needs confirmations."""
        if self.minimum_depth is not None:
            return self.minimum_depth
        return _DEPTHS.get(chain, _DEFAULT_DEPTH)

    def _check_limits(self, theirs: OpenChannel | AcceptChannel, funding_sat: int) -> None:
        """What the peer lays down for us."""
        if theirs.to_self_delay > self.max_to_self_delay:
            raise Refusal(
                f"to_self_delay {theirs.to_self_delay} is above {self.max_to_self_delay} blocks"
            )
        if theirs.dust_limit_satoshis > self.max_dust_limit_sat:
            raise Refusal(
                f"dust_limit_satoshis {theirs.dust_limit_satoshis} is above "
                f"{self.max_dust_limit_sat}"
            )
        if theirs.channel_reserve_satoshis * _MAX_RESERVE_DIVISOR > funding_sat:
            raise Refusal(
                f"channel_reserve_satoshis {theirs.channel_reserve_satoshis} is more than a "
                f"{_MAX_RESERVE_DIVISOR}th of {funding_sat} sat"
            )
        # With these no payment could ever go to the peer.
        if theirs.max_accepted_htlcs == 0:
            raise Refusal("max_accepted_htlcs 0 leaves room for no payment")
        most_msat = min(theirs.max_htlc_value_in_flight_msat, 1000 * funding_sat)
        if theirs.htlc_minimum_msat > most_msat:
            raise Refusal(
                f"htlc_minimum_msat {theirs.htlc_minimum_msat} leaves room for no payment"
            )

    def _check_channel_type(self, channel_type: bytes | None) -> None:
        if channel_type is None:
            if not self.allow_no_channel_type:
                raise Refusal("a channel_type is needed")
            return
        features = Features.from_bytes(channel_type)
        # Of these two, either may come with any type.
        allowed = {
            bit
            for bit, is_allowed in (
                (Feature.OPTION_SCID_ALIAS, self.allow_scid_alias),
                (Feature.OPTION_ZEROCONF, self.allow_zeroconf),
            )
            if is_allowed
        }
        base = frozenset(features.bits) - allowed
        if base not in (CHANNEL_TYPES[name] for name in self.channel_types):
            bits = ", ".join(map(str, features.bits))
            raise Refusal(f"the channel type {features} (bits {bits}) is not accepted")

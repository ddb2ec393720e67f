"""The client's side: a wallet's keys, policy, record and signer, and the SDK that joins a relay."""

from typing import TYPE_CHECKING

from lightning_proxy.lazily import exporting

if TYPE_CHECKING:
    from lightning_proxy.wallet.backoff import Backoff
    from lightning_proxy.wallet.client import Wallet
    from lightning_proxy.wallet.confirmations import OwnChain
    from lightning_proxy.wallet.errors import (
        ChannelError,
        ConnectionLost,
        FundingError,
        HandshakeFailed,
        KeystoreError,
        OriginMismatch,
        PolicyError,
        RecordError,
        RelayError,
        RelayMisbehaved,
        WalletError,
        WrongPassphrase,
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
        MessageReceived,
        PeerConnected,
        PeerUnreachable,
        ReceivedMessage,
        Reconnected,
        RecordOutdated,
        Refused,
        SessionClosed,
    )
    from lightning_proxy.wallet.funding import Funder, FundingWanted
    from lightning_proxy.wallet.keys import WalletKeys
    from lightning_proxy.wallet.policy import Policy
    from lightning_proxy.wallet.record import Record
    from lightning_proxy.wallet.reference import ReferenceWallet
    from lightning_proxy.wallet.request import (
        ChannelKeysRequest,
        ChannelReadyRequest,
        FundingCreatedRequest,
        FundingSignedRequest,
        FundingTransactionRequest,
        LeftOpen,
        ReestablishRequest,
        Refusal,
        Request,
    )
    from lightning_proxy.wallet.session import Session
    from lightning_proxy.wallet.signer import KeySigner, Signer

__all__ = [
    "Answered",
    "Backoff",
    "ChannelError",
    "ChannelKeysRequest",
    "ChannelOpened",
    "ChannelProblem",
    "ChannelReadyRequest",
    "ConnectionLost",
    "DelegationReceived",
    "Disconnected",
    "Event",
    "Funder",
    "FundingChange",
    "FundingChanged",
    "FundingCreatedRequest",
    "FundingError",
    "FundingSignedRequest",
    "FundingTransactionRequest",
    "FundingWanted",
    "HandshakeFailed",
    "KeySigner",
    "KeystoreError",
    "LeftOpen",
    "MessageReceived",
    "OriginMismatch",
    "OwnChain",
    "PeerConnected",
    "PeerUnreachable",
    "Policy",
    "PolicyError",
    "ReceivedMessage",
    "Reconnected",
    "Record",
    "RecordError",
    "RecordOutdated",
    "ReestablishRequest",
    "ReferenceWallet",
    "Refusal",
    "Refused",
    "RelayError",
    "RelayMisbehaved",
    "Request",
    "Session",
    "SessionClosed",
    "Signer",
    "Wallet",
    "WalletError",
    "WalletKeys",
    "WrongPassphrase",
]

__getattr__ = exporting(
    __name__,
    {
        "backoff": ("Backoff",),
        "client": ("Wallet",),
        "confirmations": ("OwnChain",),
        "errors": (
            "ChannelError",
            "ConnectionLost",
            "FundingError",
            "HandshakeFailed",
            "KeystoreError",
            "OriginMismatch",
            "PolicyError",
            "RecordError",
            "RecordOutdated",
            "RelayError",
            "RelayMisbehaved",
            "WalletError",
            "WrongPassphrase",
        ),
        "events": (
            "Answered",
            "ChannelOpened",
            "ChannelProblem",
            "DelegationReceived",
            "Disconnected",
            "Event",
            "FundingChange",
            "FundingChanged",
            "MessageReceived",
            "PeerConnected",
            "PeerUnreachable",
            "ReceivedMessage",
            "Reconnected",
            "RecordOutdated",
            "Refused",
            "SessionClosed",
        ),
        "funding": (
            "Funder",
            "FundingWanted",
        ),
        "keys": ("WalletKeys",),
        "policy": ("Policy",),
        "record": ("Record",),
        "reference": ("ReferenceWallet",),
        "request": (
            "ChannelKeysRequest",
            "ChannelReadyRequest",
            "FundingCreatedRequest",
            "FundingSignedRequest",
            "FundingTransactionRequest",
            "LeftOpen",
            "ReestablishRequest",
            "Refusal",
            "Request",
        ),
        "session": ("Session",),
        "signer": (
            "KeySigner",
            "Signer",
        ),
    },
)

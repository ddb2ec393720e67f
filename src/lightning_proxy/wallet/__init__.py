"""The client's side: a wallet's keys, policy, record and signer, and the SDK that joins a relay."""

from lightning_proxy.wallet.client import Backoff, Wallet
from lightning_proxy.wallet.errors import (
    ConnectionLost,
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
    DelegationReceived,
    Disconnected,
    Event,
    MessageReceived,
    ReceivedMessage,
    Reconnected,
    Refused,
    SessionClosed,
)
from lightning_proxy.wallet.keys import WalletKeys
from lightning_proxy.wallet.policy import Policy
from lightning_proxy.wallet.record import Record
from lightning_proxy.wallet.reference import ReferenceWallet
from lightning_proxy.wallet.request import ChannelKeysRequest, Refusal
from lightning_proxy.wallet.session import Session
from lightning_proxy.wallet.signer import KeySigner, Signer

__all__ = [
    "Answered",
    "Backoff",
    "ChannelKeysRequest",
    "ConnectionLost",
    "DelegationReceived",
    "Disconnected",
    "Event",
    "HandshakeFailed",
    "KeySigner",
    "KeystoreError",
    "MessageReceived",
    "OriginMismatch",
    "Policy",
    "PolicyError",
    "ReceivedMessage",
    "Reconnected",
    "Record",
    "RecordError",
    "ReferenceWallet",
    "Refusal",
    "Refused",
    "RelayError",
    "RelayMisbehaved",
    "Session",
    "SessionClosed",
    "Signer",
    "Wallet",
    "WalletError",
    "WalletKeys",
    "WrongPassphrase",
]

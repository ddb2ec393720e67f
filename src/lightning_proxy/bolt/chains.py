"""The chains' names and their hashes as messages carry them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

#: `chain_hash` by name: a genesis block's double SHA-256, in the order of the wire (BOLT #0), which
#: is the reverse of how block explorers print it. simnet is btcd's.
CHAIN_HASHES: Final[Mapping[str, bytes]] = MappingProxyType(
    {
        name: bytes.fromhex(printed)[::-1]
        for name, printed in {
            "bitcoin": "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
            "testnet": "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943",
            "testnet4": "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043",
            "signet": "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6",
            "simnet": "683e86bd5c6d110d91b94b97137ba6bfe02dbbdb8e3dff722a669b5d69d77af6",
            "regtest": "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
        }.items()
    }
)

_NAMES: Final = {chain_hash: name for name, chain_hash in CHAIN_HASHES.items()}


def chain_name(chain_hash: bytes) -> str | None:
    """The name of a chain hash, None for a chain that isn't listed here."""
    return _NAMES.get(chain_hash)

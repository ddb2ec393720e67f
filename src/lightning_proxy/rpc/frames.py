"""How large a frame of the signing channel may be, and what is kept in bounds so that it is not.

Relay and SDK take their limits from here. `tests/e2e/test_frames.py` derives the largest value of
every message from the types and sends it: what has no bound of its own does not pass.
"""

from typing import Final

from msgspec import Meta

#: Bytes of the largest frame that a relay takes: a hundred key slots, or a funding transaction.
MAX_FRAME_TO_RELAY: Final = 1_310_720
#: And of the largest that it sends; wallets have taken as much from the beginning.
MAX_FRAME_TO_WALLET: Final = 4 * 1024 * 1024

#: Bytes of a list in one piece, for who does not ask for pages: a thousand ordinary channels fit.
LIST_BYTES: Final = 2 * 1024 * 1024
#: Bytes of a page, where its first element alone is as large; any one fits.
PAGE_BYTES: Final = 640 * 1024
#: And of all other pages: on a poor connection nothing else comes through meanwhile.
PAGE_GOAL: Final = 256 * 1024
#: Bytes of a delegation's `decoded`.
DECODED_BYTES: Final = 64 * 1024
#: Bytes of what is said on a channel in one piece, which has to fit either frame.
MOVES_BYTES: Final = 1024 * 1024
#: Bytes of a channel's whole state, which depends on what is under way in it.
SNAPSHOT_BYTES: Final = 256 * 1024
#: Characters of whatever is said in words.
MAX_SENTENCE: Final = 1000

#: The name, in the schema, of a bound that JSON Schema has no word for.
MAX_BYTES: Final = "x-max-bytes"


def bytes_at_most(most: int) -> Meta:
    """The bound of something whose JSON has so many bytes at most."""
    return Meta(extra_json_schema={MAX_BYTES: most})

"""BOLT #8, appendix A: all sixteen cases, the errors by name."""

from typing import Any

import pytest

from lightning_proxy.transport import CipherState
from lightning_proxy.transport.handshake import (
    HandshakeError,
    Initiator,
    Responder,
    TransportKeys,
)
from lightning_proxy.transport.reference import ReferenceCipherState
from tests.support.data import load_json

pytestmark = pytest.mark.usefixtures("each_kernel")

CASES = load_json("bolt08.json")["cases"]
HANDSHAKES = [case for case in CASES if case["steps"]]
MESSAGES = next(case for case in CASES if "outputs" in case)


def test_there_are_sixteen_cases() -> None:
    assert len(CASES) == 16
    assert len(HANDSHAKES) == 15


class _Script:
    """Either role as one function of what came: the next act out, or the keys at the end."""

    def __init__(self, case: dict[str, Any]) -> None:
        static, ephemeral = bytes.fromhex(case["ls_priv"]), bytes.fromhex(case["e_priv"])
        self.keys: TransportKeys | None = None
        if "rs_pub" in case:
            self.initiator = Initiator(static, bytes.fromhex(case["rs_pub"]), ephemeral)
            self.out = [self.initiator.act_one()]
            self.take = self._initiate
        else:
            self.responder = Responder(static, ephemeral)
            self.out = []
            self.take = self._respond

    def _initiate(self, data: bytes) -> None:
        self.out.append(self.initiator.act_two(data))
        self.keys = self.initiator.keys

    def _respond(self, data: bytes) -> None:
        if not self.out:
            self.out.append(self.responder.act_one(data))
        else:
            self.keys = self.responder.act_three(data)


@pytest.mark.parametrize("case", HANDSHAKES, ids=lambda case: case["name"])
def test_handshake(case: dict[str, Any]) -> None:
    script = _Script(case)
    sent = 0
    failure: HandshakeError | None = None
    for step in case["steps"]:
        if "output" in step:
            assert script.out[sent].hex() == step["output"]
            sent += 1
        elif "input" in step:
            try:
                script.take(bytes.fromhex(step["input"]))
            except HandshakeError as error:
                failure = error
        elif "error" in step:
            assert failure is not None
            assert failure.code == step["error"]
            assert script.keys is None
        else:
            assert script.keys is not None
            assert script.keys.sending_key.hex() == step["sk"]
            assert script.keys.receiving_key.hex() == step["rk"]
            assert script.keys.chaining_key.hex() == case["chaining_key"]
    assert (failure is None) == ("chaining_key" in case)


@pytest.mark.parametrize("kind", [CipherState, ReferenceCipherState])
def test_messages_across_two_rotations(
    kind: type[CipherState] | type[ReferenceCipherState],
) -> None:
    key, chaining_key = bytes.fromhex(MESSAGES["sk"]), bytes.fromhex(MESSAGES["ck"])
    sending, receiving = kind(key, chaining_key), kind(key, chaining_key)
    seen = 0
    for number in range(1002):
        sealed = sending.seal(b"hello")
        wanted = MESSAGES["outputs"].get(str(number))
        if wanted is not None:
            assert sealed.hex() == wanted
            seen += 1
        assert receiving.open(sealed) == ([b"hello"], len(sealed))
    assert seen == len(MESSAGES["outputs"]) == 6

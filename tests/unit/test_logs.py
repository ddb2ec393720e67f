"""The log's two forms, each in a process of its own: setting it up is for good."""

import json
import subprocess
import sys

import pytest
from aiohttp.log import ws_logger

CODE = """
import logging, sys, structlog
from lightning_proxy import logs
early = structlog.get_logger()
logs.set_up(logs.LogSettings(level=sys.argv[1], format=sys.argv[2]))
early.debug("step", size=50)
early.info("session_closed", reason="it rains", session_id="5e", raw=b"\\x01")
early.info("peer_error", text="\\x1b[2J\\u202e", said="no\\r\\nroom")
logging.getLogger("aiohttp.server").error("Error handling %s", "request")
logging.getLogger("aiohttp.websocket").warning("Client protocols %r", ["token.c2VjcmV0"])
logging.getLogger("asyncio").info("chatter")
def fail():
    sending_key = "top" + "secret"
    raise RuntimeError("it broke")
try:
    fail()
except RuntimeError:
    early.error("request_failed", exc_info=True)
    logging.getLogger("asyncio").exception("in a library")
"""


def log(level: str, form: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", CODE, level, form], capture_output=True, text=True, check=True
    )
    assert result.stdout == ""
    return result.stderr


def test_json_is_an_event_a_line() -> None:
    lines = [json.loads(line) for line in log("debug", "json").splitlines()]
    events = [line["event"] for line in lines]
    assert events == [
        "step",
        "session_closed",
        "peer_error",
        "Error handling request",
        "request_failed",
        "in a library",
    ]
    assert lines[0]["size"] == 50
    assert {line["level"] for line in lines} == {"debug", "info", "error"}
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert all("RuntimeError: it broke" in line["exception"] for line in lines[4:])


@pytest.mark.parametrize("form", ["console", "json"])
def test_the_level_holds(form: str) -> None:
    text = log("warning", form)
    assert "request_failed" in text
    assert "session_closed" not in text


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_shows_no_local_variable(form: str) -> None:
    text = log("info", form)
    assert "it broke" in text
    assert "in a library" in text
    assert "topsecret" not in text


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_token_that_was_offered_as_a_subprotocol(form: str) -> None:
    assert ws_logger.name == "aiohttp.websocket"
    assert "c2VjcmV0" not in log("debug", form)


def test_the_console_has_no_colours_in_a_file() -> None:
    assert "\x1b" not in log("debug", "console")


def test_the_console_shows_strangers_words_on_one_line() -> None:
    (line,) = [line for line in log("debug", "console").splitlines() if "peer_error" in line]
    assert "?[2J?" in line
    assert "no??room" in line

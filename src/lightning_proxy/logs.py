"""The relay's log: structlog to stderr, a line an event, for people or as JSON."""

import logging
import sys
from contextlib import suppress
from typing import Any, Final, Literal

import msgspec
import structlog
from structlog.typing import EventDict, Processor

from lightning_proxy.log_settings import LogSettings
from lightning_proxy.terminal import flat

#: Lines of Python's own.
_TRACES: Final = frozenset({"exception", "stack"})


class _Logger(structlog.WriteLogger):
    """One system call a line. A log that can't be written, on a full disk, stops nothing else."""

    def msg(self, message: str) -> None:
        with suppress(OSError):
            super().msg(message)

    log = debug = info = warn = warning = error = critical = exception = fatal = failure = err = msg


def set_up(settings: LogSettings) -> None:
    """Send structlog's events, and what libraries give to `logging`, to stderr."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering = _rendering(settings.format)
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Logger(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    # What libraries say below a warning is about themselves.
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
    # It warns with all subprotocols that a client offers; a page's access token is one.
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)


def _rendering(form: Literal["console", "json"]) -> list[Processor]:
    # Tracebacks without local variables, which structlog shows by default: a local variable may
    # hold a transport key.
    if form == "json":
        return [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_to_json),
        ]
    return for_people()


def for_people() -> list[Processor]:
    """A line an event, whatever strangers say in it."""
    return [
        _flatten,
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
    ]


def _flatten(_: object, __: str, event: EventDict) -> EventDict:
    # Of a value without spaces the renderer shows every character as it is.
    return {
        name: flat(value) if isinstance(value, str) and name not in _TRACES else value
        for name, value in event.items()
    }


def _to_json(event: dict[str, Any], **_: object) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()

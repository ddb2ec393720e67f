"""What an operator can set about the log."""

from typing import Literal

from msgspec import Struct


class LogSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is logged, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"
    #: A file that gets a line of JSON for every outcome; begun anew after SIGHUP (logrotate).
    audit: str | None = None

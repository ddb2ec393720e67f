"""The API: REST, the wallet websocket, metrics, the published schema."""

from typing import TYPE_CHECKING

from lightning_proxy.lazily import exporting

if TYPE_CHECKING:
    from lightning_proxy.api.server import Server
    from lightning_proxy.api.settings import ApiSettings, SettingsError

__all__ = ["ApiSettings", "Server", "SettingsError"]

__getattr__ = exporting(
    __name__,
    {
        "server": ("Server",),
        "settings": (
            "ApiSettings",
            "SettingsError",
        ),
    },
)

"""The API: REST, the wallet websocket, metrics, the published schema."""

from lightning_proxy.api.server import Server
from lightning_proxy.api.settings import ApiSettings, SettingsError

__all__ = ["ApiSettings", "Server", "SettingsError"]

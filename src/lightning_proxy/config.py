"""The relay's configuration: flags over environment over a TOML file over defaults, typed."""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct, field, structs

from lightning_proxy.api import ApiSettings
from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.chain import SourceURL
from lightning_proxy.log_settings import LogSettings
from lightning_proxy.relay import RelaySettings
from lightning_proxy.relay.dial_policy import DialPolicy
from lightning_proxy.relay.store import IN_MEMORY, is_url, parse_url, without_secrets
from lightning_proxy.rpc import normal_origin, page_origin

_PREFIX: Final = "LIGHTNING_PROXY"
_HIDDEN: Final = "(hidden)"
#: Bytes of a unix socket's name, with the one that ends it; Linux has 108, macOS 104.
_MAX_SOCKET: Final = 104


class ConfigError(Exception):
    """A setting is wrong; the sentence names it and what is wanted, and repeats no token."""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that an operator can set, a section each."""

    relay: RelaySettings = field(default_factory=RelaySettings)
    api: ApiSettings = field(default_factory=ApiSettings)
    log: LogSettings = field(default_factory=LogSettings)

    def shown(self) -> dict[str, Any]:
        """Every setting, as plain values, for people to see, without what opens a door."""
        values: dict[str, Any] = _without_secrets(msgspec.to_builtins(self))
        values["api"]["tokens"] = [_HIDDEN] * len(self.api.tokens)
        if self.api.metrics_token is not None:
            values["api"]["metrics_token"] = _HIDDEN
        relay = self.relay
        if relay.chain is not None:
            values["relay"]["chain"] = SourceURL.parse(relay.chain).without_secrets(relay.chain)
        if relay.store is not None and is_url(relay.store):
            values["relay"]["store"] = without_secrets(relay.store)
        return values


def _without_secrets(value: Any) -> Any:
    """With user, password, query and fragment of each URL hidden that somebody wrote somewhere."""
    match value:
        case dict():
            return {name: _without_secrets(each) for name, each in value.items()}
        case list():
            return [_without_secrets(each) for each in value]
        case str() if "://" in value:
            scheme, _, rest = value.partition("://")
            place, mark, _ = re.split(r"([?#]|$)", rest, maxsplit=1)
            user, at, host = place.rpartition("@")
            return f"{scheme}://{_HIDDEN if user else ''}{at}{host}{mark}{_HIDDEN if mark else ''}"
    return value


class Setting(NamedTuple):
    """One value that was given outside the file: `source` is what the user wrote it as."""

    source: str
    path: tuple[str, ...]
    value: object


def default_file(environ: Mapping[str, str]) -> Path | None:
    """The file to read when none is named, if it is there (XDG base directories)."""
    home = environ.get("XDG_CONFIG_HOME")
    folder = Path(home) if home else Path.home() / ".config"
    file = folder / "lightning-proxy" / "config.toml"
    return file if file.is_file() else None


def default_store(environ: Mapping[str, str]) -> Path:
    """Where `serve` keeps its channels when nothing is said (XDG base directories)."""
    home = environ.get("XDG_STATE_HOME")
    folder = Path(home) if home else Path.home() / ".local" / "state"
    return folder / "lightning-proxy" / "relay.sqlite"


def with_places(config: Config, environ: Mapping[str, str]) -> Config:
    """With the files filled in that `serve` keeps where nothing is said."""
    relay = config.relay
    store = relay.store or str(default_store(environ))
    relay = structs.replace(relay, store=store)
    beside = default_store(environ) if is_url(store) else Path(store)
    if relay.wake.identity is None and store != IN_MEMORY:
        identity = str(beside.with_name(f"{beside.name}.key"))
        relay = structs.replace(relay, wake=structs.replace(relay.wake, identity=identity))
    api, admin = config.api, str(beside.with_name(f"{beside.name}.admin"))
    # Where the store lies too deep for a socket's name, the operator has to say another place.
    if api.admin_socket is None and store != IN_MEMORY and len(os.fsencode(admin)) < _MAX_SOCKET:
        api = structs.replace(api, admin_socket=admin)
    return structs.replace(config, relay=relay, api=api)


def load(file: Path | None, environ: Mapping[str, str], flags: Iterable[Setting] = ()) -> Config:
    """The configuration in force; raises `ConfigError`.

    A list that is given replaces the one below it. In the environment
    `LIGHTNING_PROXY_<SECTION>_<NAME>` gives a setting, lists with commas; an empty one gives none.
    """
    values: dict[str, Any] = msgspec.to_builtins(Config())
    if file is not None:
        _merge(values, _read(file))
    for setting in (*_from_environment(environ), *flags):
        _put(values, setting)
    config = _with_chain(msgspec.convert(values, Config))
    _check(config)
    return config


def _with_chain(config: Config) -> Config:
    """With the chain source's URL read from its file, if it stands in one."""
    relay = config.relay
    if relay.chain_file is None:
        return config
    if relay.chain is not None:
        raise ConfigError("relay.chain and relay.chain_file: set one of them")
    name = f"relay.chain_file: {relay.chain_file}"
    try:
        lines = Path(relay.chain_file).read_text("utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{name} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{name} is no text") from None
    if not lines or not lines[0].strip():
        raise ConfigError(f"{name} has no URL in its first line")
    return structs.replace(config, relay=structs.replace(relay, chain=lines[0].strip()))


def _read(file: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no TOML: {error}") from None
    try:
        msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}: {_sentence(error)}") from None
    return values


def _merge(values: dict[str, Any], over: dict[str, Any]) -> None:
    for name, value in over.items():
        if isinstance(value, dict):
            _merge(values[name], value)
        else:
            values[name] = value


def _leaves(
    kind: type[Struct], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every setting's path and type; a table by kind of delegation has one for each kind."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if isinstance(hint, type) and issubclass(hint, Struct):
            yield from _leaves(hint, (*path, name))
        elif get_origin(hint) is dict:
            kinds, value = get_args(hint)
            for member in kinds:
                yield (*path, name, member.value), value
        else:
            yield (*path, name), hint


_LEAVES: Final = dict(_leaves(Config))
_VARIABLES: Final = {"_".join((_PREFIX, *path)).upper(): path for path in _LEAVES}
#: Other variables begin with LIGHTNING_PROXY, too: only a section's name and one more make one.
_SECTIONS: Final = tuple(f"{_PREFIX}_{name}_".upper() for name in Config.__struct_fields__)


#: What Kubernetes sets in every container for each service of its namespace, by the service's name
#: (`lightning-proxy-relay` begins like a setting): a name's end, and where a name may be a
#: setting's, too, its value.
_KUBERNETES_NAME: Final = re.compile(
    r"_SERVICE_HOST$|_SERVICE_PORT(?:_[A-Z0-9_]+)?$|_PORT_[0-9]+_(?:TCP|UDP|SCTP)"
    r"(?:_(?:PROTO|PORT|ADDR))?$"
)
_KUBERNETES_VALUE: Final = re.compile(r"(?:tcp|udp|sctp)://\S+:[0-9]+")


def made_by_kubernetes(environ: Mapping[str, str]) -> list[str]:
    """Variables that look like settings, and are Kubernetes' word about a service."""
    return [
        name
        for name, value in environ.items()
        if name.startswith(_SECTIONS)
        and (
            (name not in _VARIABLES and _KUBERNETES_NAME.search(name) is not None)
            or (name.endswith("_PORT") and _KUBERNETES_VALUE.fullmatch(value) is not None)
        )
    ]


def _from_environment(environ: Mapping[str, str]) -> Iterator[Setting]:
    foreign = frozenset(made_by_kubernetes(environ))
    for name, value in environ.items():
        if not name.startswith(_SECTIONS) or name in foreign:
            continue
        path = _VARIABLES.get(name)
        if path is None:
            close = difflib.get_close_matches(name, _VARIABLES, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(f"{name} is no setting{hint}")
        if value:
            yield Setting(name, path, value)


def _put(values: dict[str, Any], setting: Setting) -> None:
    hint, value = _LEAVES[setting.path], setting.value
    if get_origin(hint) is list and isinstance(value, str):
        value = [item.strip() for item in value.split(",") if item.strip()]
    try:
        value = msgspec.convert(value, hint, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{setting.source}: {_sentence(error)}") from None
    for name in setting.path[:-1]:
        values = values[name]
    values[setting.path[-1]] = value


def _sentence(error: msgspec.ValidationError) -> str:
    """msgspec's words, the key first: "api.port: Expected int <= 65535"."""
    what, _, where = str(error).replace("`", "").partition(" - at ")
    what = what.replace("bool", "true or false").replace(
        "Object contains unknown field", "no such setting:"
    )
    place = where.replace("$.", "").removeprefix("$")
    return f"{place}: {what}" if place else what


def _check(config: Config) -> None:
    """What types don't say; what is wrong between settings, `ApiSettings.checked` says."""
    for name in config.relay.networks:
        if name not in CHAIN_HASHES:
            raise ConfigError(
                f"relay.networks: {name!r} is no chain; write some of {', '.join(CHAIN_HASHES)}"
            )
    if config.relay.chain is not None:
        try:
            SourceURL.parse(config.relay.chain)
        except ValueError as error:
            raise ConfigError(f"relay.chain: {error}") from None
    if config.relay.store is not None and is_url(config.relay.store):
        try:
            parse_url(config.relay.store)
        except ValueError as error:
            raise ConfigError(f"relay.store: {error}") from None
    try:
        DialPolicy(config.relay.dial, relay_is_local=True)
    except ValueError as error:
        raise ConfigError(f"relay.dial.allow and relay.dial.deny: {error}") from None
    for key, read in (("origins", normal_origin), ("web_origins", page_origin)):
        for origin in getattr(config.api, key):
            try:
                read(origin)
            except ValueError as error:
                raise ConfigError(f"api.{key}: {error}") from None

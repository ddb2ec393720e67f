"""`lightning-proxy vapid`: makes the key for Web Push, and shows its public half."""

from pathlib import Path
from typing import Annotated, Final, NoReturn

import msgspec
import typer
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lightning_proxy.relay.wake.adapter import WakeError
from lightning_proxy.relay.wake.key_file import write_key

_FAILED: Final = 1
_DEFAULT: Final = Path("vapid.pem")

app = typer.Typer(add_completion=False)


@app.command()
def vapid(
    file: Annotated[Path, typer.Argument(help="Where the key is, or is to be.")] = _DEFAULT,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Put a new key in an old one's place: its subscriptions are lost."
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a VAPID key (RFC 8292), or show the one that is there.

    Tell the relay of it: serve --vapid-key FILE, or relay.wake.vapid_key in its configuration; and
    in relay.wake.vapid_subject how push services reach you, such as mailto:you@example.com. Pages
    need the public key as applicationServerKey.
    """
    is_new = force or not file.exists()
    try:
        if is_new:
            _make(file, force=force)
        # It takes long to import.
        from lightning_proxy.relay.wake.web_push import VapidKey  # noqa: PLC0415

        public_key = VapidKey(file).public_key
    except OSError as error:
        _fail(f"{file} can't be written: {error.strerror}")
    except WakeError as error:
        _fail(str(error))
    if json:
        shown = {"file": str(file), "new": is_new, "public_key": public_key}
        typer.echo(msgspec.json.encode(shown).decode())
    else:
        typer.echo(f"{'Made' if is_new else 'There is'} {file}; its public key is {public_key}")


def _make(file: Path, *, force: bool) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_key(file, text, replace=force)


def _fail(sentence: str) -> NoReturn:
    typer.echo(f"Error: {sentence}", err=True)
    raise typer.Exit(_FAILED)

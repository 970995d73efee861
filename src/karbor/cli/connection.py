"""Which service the command talks to: a standalone one by its folder, any by address and token, or a cloud's."""

from __future__ import annotations

import functools
import getpass
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from karbor.cli.transport import Address, TokenTransport, Transport
from karbor.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping

TIMEOUT = 60.0
"""Seconds to wait for an answer."""

_AUTH_OPTIONS = {
    "auth-url": "address of Keystone",
    "username": "name of the user",
    "user-id": "id of the user",
    "user-domain-name": "domain of the user by name",
    "user-domain-id": "domain of the user by id",
    "project-name": "project by name",
    "project-id": "project by id",
    "project-domain-name": "domain of the project by name",
    "project-domain-id": "domain of the project by id",
    "trust-id": "act by this trust",
    "application-credential-id": "application credential by id",
    "application-credential-name": "application credential by name",
}
_SECRETS = ("password", "token", "application-credential-secret", "passcode")
"""Taken from the environment only: command lines can be read by everybody on a host."""


def add_options(parser: ArgumentParser) -> None:
    """The global options that say where the service is."""
    group = parser.add_argument_group(
        "service",
        "One of: --state for a standalone service of this host; --endpoint with KARBOR_TOKEN; --os-cloud; the OS_*"
        " variables of a cloud. Each option has a variable: KARBOR_STATE, KARBOR_ENDPOINT, OS_AUTH_URL and so on.",
    )
    group.add_argument("--state", metavar="DIR", help="folder of a standalone service")
    group.add_argument("--endpoint", metavar="URL", help="address of a project: http://HOST:8799/v1/PROJECT")
    group.add_argument("--token", metavar="TOKEN", help="better in the variable KARBOR_TOKEN: others can read this")
    group.add_argument("--timeout", type=float, default=TIMEOUT, metavar="SECONDS", help="for one answer; default 60")
    group.add_argument("--os-cloud", metavar="NAME", help="a cloud of clouds.yaml")
    group.add_argument("--os-auth-type", metavar="KIND", help="plugin of keystoneauth; default: password")
    for name, text in _AUTH_OPTIONS.items():
        group.add_argument(f"--os-{name}", metavar="TEXT", help=text)
    group.add_argument("--os-interface", metavar="NAME", help="public, internal or admin; default: public")
    group.add_argument("--os-region-name", metavar="NAME", help="region of the cloud")
    group.add_argument("--os-cacert", metavar="FILE", help="certificates to trust")
    group.add_argument("--insecure", action="store_true", help="do not check certificates")


def connect(args: Namespace, environ: Mapping[str, str]) -> Transport:
    """The transport that the options ask for, the environment where they say nothing.

    Raises `InvalidInput` where neither says where the service is.
    """
    state, endpoint = state_folder(args, environ), args.endpoint
    if not (state or endpoint or args.os_auth_url or args.os_cloud):
        endpoint = environ.get("KARBOR_ENDPOINT")
    cacert = args.os_cacert or environ.get("OS_CACERT")
    tls = functools.partial(_tls, cacert, args.insecure)
    if state:
        locate = functools.partial(standalone_address, state)
        return TokenTransport(locate, timeout=args.timeout, tls=tls)
    if endpoint:
        address = Address(endpoint, args.token or environ.get("KARBOR_TOKEN", ""))
        return TokenTransport(lambda: address, timeout=args.timeout, tls=tls)
    return _keystone(args, environ, verify=not args.insecure and (cacert or True))


def state_folder(args: Namespace, environ: Mapping[str, str]) -> Path | None:
    """The folder of the standalone service: the option, or the variable where no option says otherwise."""
    if args.state:
        return Path(args.state)
    if args.endpoint or args.os_auth_url or args.os_cloud or not environ.get("KARBOR_STATE"):
        return None
    return Path(environ["KARBOR_STATE"])


def standalone_address(state: Path) -> Address:
    """Address and token of the standalone service whose folder this is; raises `Unavailable` where it is not there."""
    try:
        return Address(*((state / name).read_text(encoding="utf-8").strip() for name in ("endpoint", "token")))
    except OSError as error:
        raise Unavailable(
            f"no running service in {state}: {error.filename}: {error.strerror}",
            hint=f"`karbor standalone --state {state}` starts one",
        ) from error


def _keystone(args: Namespace, environ: Mapping[str, str], *, verify: bool | str) -> Transport:
    def option(name: str) -> str | None:
        return getattr(args, f"os_{name}", None) or environ.get(f"OS_{name.upper()}") or None

    names = [name.replace("-", "_") for name in (*_AUTH_OPTIONS, *_SECRETS)]
    options = {name: value for name in names if (value := option(name))}
    cloud = args.os_cloud or (None if args.os_auth_url else environ.get("OS_CLOUD"))
    if not cloud and "auth_url" not in options:
        raise InvalidInput(
            "it is not said where the service is",
            hint="give --state DIR, or --endpoint URL and KARBOR_TOKEN, or --os-cloud NAME, or the OS_* variables",
        )
    from karbor.cli import keystone  # noqa: PLC0415 - a fifth of a second that others need not pay

    if cloud:
        return keystone.of_cloud(cloud)
    kind = option("auth_type") or "password"
    if kind.endswith("password") and "password" not in options:
        options["password"] = _password()
    return keystone.KeystoneTransport(
        keystone.session_by(kind, options, verify=verify, timeout=args.timeout),
        interface=option("interface") or "public",
        region=option("region_name"),
        endpoint=option("endpoint_override"),
    )


def _password() -> str:
    if not sys.stdin.isatty():
        raise InvalidInput("Keystone wants a password", hint="set OS_PASSWORD")
    return getpass.getpass("Password: ")


def _tls(cacert: str | None, insecure: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=cacert)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context

"""`rowcast token`: makes the tokens that a configuration accepts, and reads them.

For trying things out and for scripts; in earnest whoever knows the users makes their tokens.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import jwt

from broker.cli.exits import EXIT_CONFIG, EXIT_OK
from broker.config.arguments import Arguments
from broker.config.dialects.gateway import DIALECT_KINDS
from broker.config.load import load
from broker.config.model import Config, ConfigError
from broker.config.tokens import JwtConfig, TokenConfig
from broker.gateway.identity import MALFORMED, JwtVerifier
from broker.gateway.tokens import TokenVerifier, UnusableKey
from protocol.dialects.base import Clock, Identity

DIALECTS = ("rowcast", "mqtt", *(name for name in DIALECT_KINDS if name != "rowcast"))
_DURATION = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_EPILOG = """examples:
  rowcast token -c shop.toml --sub ada --subscribe 'orders/{sub}' --publish 'chat/#' --expires 1h
  rowcast token -c examples/econia.toml --dialect econia --mode r --channel fill_event --expires 1h
  rowcast token -c examples/canton.toml --dialect canton --sub ACC-1 --role trader
  rowcast token -c shop.toml --decode TOKEN
"""


class TokenError(Exception):
    """Why there is no token."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make `token` known to the command line."""
    parser = subparsers.add_parser(
        "token",
        help="make a token from a configuration, or read one",
        description="Make a token that a configuration accepts, with its own secret; or say what one holds.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-c", "--config-file", type=Path, required=True, metavar="FILE", help="the configuration"
    )
    parser.add_argument(
        "--dialect", choices=DIALECTS, help="default: the only one that is set up, or rowcast"
    )
    parser.add_argument(
        "--decode", metavar="TOKEN", help="say what a token holds and whether it is good; - reads it"
    )
    parser.add_argument("--sub", metavar="NAME", default="", help="whose it is: user, or account")
    parser.add_argument("--subscribe", action="append", default=[], metavar="FILTER", help="rowcast and mqtt")
    parser.add_argument("--publish", action="append", default=[], metavar="FILTER", help="rowcast and mqtt")
    parser.add_argument("--mode", choices=("r", "w", "rw"), default="r", help="econia; default: r")
    parser.add_argument("--channel", action="append", default=[], metavar="NAME", help="econia")
    parser.add_argument("--role", action="append", default=[], metavar="NAME", help="canton")
    parser.add_argument("--claim", action="append", default=[], metavar="NAME=JSON", help="any other claim")
    parser.add_argument("--expires", metavar="TIME", help="such as 30s, 15m, 1h or 7d; never if not given")
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="a private key in PEM, where no secret signs"
    )
    parser.add_argument("--kid", default="", help="the name of that key in the JWKS")


def run(options: argparse.Namespace) -> int:
    """Print a token, or what one holds; the exit status."""
    try:
        config = load(Arguments(config_file=options.config_file))
        dialect = options.dialect or _only_dialect(config)
        if options.decode is not None:
            return decode(config, dialect, options.decode)
        print(make(config, dialect, options))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    except (TokenError, UnusableKey) as error:
        print(f"Error: {error}", file=sys.stderr)
        return EXIT_CONFIG
    return EXIT_OK


def make(config: Config, dialect: str, options: argparse.Namespace) -> str:
    """A token.  Raises: TokenError."""
    settings = _settings(config, dialect)
    claims = _claims(dialect, settings, options)
    for written in options.claim:
        name, separator, text = written.partition("=")
        try:
            claims[name] = json.loads(text)
        except ValueError:
            claims[name] = text
        if not separator or not name:
            raise TokenError(f"--claim {written}: NAME=JSON is wanted, such as --claim team=7")
    if options.expires is not None:
        match = _DURATION.fullmatch(options.expires)
        if match is None:
            raise TokenError(f"--expires {options.expires}: a number and s, m, h or d is wanted, such as 1h")
        claims["exp"] = int(time.time()) + int(match[1]) * _SECONDS[match[2]]
    return _signed(claims, settings, options)


def _claims(dialect: str, settings: JwtConfig | TokenConfig, options: argparse.Namespace) -> dict[str, Any]:
    claims: dict[str, Any] = {}
    if isinstance(settings, TokenConfig):
        claims |= {"sub": options.sub} if options.sub else {}
        claims |= {"subscribe": options.subscribe} if options.subscribe else {}
        claims |= {"publish": options.publish} if options.publish else {}
        claims |= {"aud": settings.audience} if settings.audience else {}
        claims |= {"iss": settings.issuer} if settings.issuer else {}
        if not claims.keys() & {"subscribe", "publish"}:
            raise TokenError("such a token allows nothing: add --subscribe FILTER or --publish FILTER")
        return claims
    if dialect == "econia":
        claims[settings.mode_claim] = options.mode
        if options.channel:
            claims[settings.channels_claims[0]] = options.channel
        return claims
    if not options.sub:
        raise TokenError("whose is it? Add --sub NAME")
    claims[settings.account_claim] = options.sub
    if options.role:
        claims[settings.roles_claim] = options.role
    return claims


def _signed(claims: dict[str, Any], settings: JwtConfig | TokenConfig, options: argparse.Namespace) -> str:
    if options.key is not None:
        return _signed_with(options.key, claims, options.kid)
    if isinstance(settings, TokenConfig):
        secrets = [*settings.secrets, *_lines(settings.secret_files)]
        algorithm = "HS256"
    else:
        algorithm = settings.algorithms[0]
        secrets = list(settings.secret) if algorithm.startswith("HS") else []
    if not secrets:
        raise TokenError("tokens are signed by somebody else's key here: give it by --key FILE")
    return jwt.encode(claims, secrets[0], algorithm=algorithm)


def _signed_with(path: Path, claims: dict[str, Any], kid: str) -> str:
    headers = {"kid": kid} if kid else None
    try:
        text = path.read_bytes()
    except OSError as error:
        raise TokenError(f"{path} can't be read: {error.strerror}") from None
    for algorithm in ("RS256", "ES256", "EdDSA"):
        try:
            return jwt.encode(claims, text, algorithm=algorithm, headers=headers)
        except (jwt.PyJWTError, ValueError, TypeError, NotImplementedError):
            continue
    raise TokenError(f"{path} holds no private key in PEM that can be used")


def decode(config: Config, dialect: str, token: str) -> int:
    """Print claims, and whether the configuration accepts it; exit status 0 if it does."""
    text = (sys.stdin.read() if token == "-" else token).strip()
    try:
        header = jwt.get_unverified_header(text)
        claims = jwt.decode(text, options={"verify_signature": False})
        shown = json.dumps({"header": header, "claims": claims}, indent=2)
    except (jwt.PyJWTError, *MALFORMED) as error:
        raise TokenError(f"this is no token: {error}") from None
    print(shown)
    settings = _settings(config, dialect)
    verifier = TokenVerifier(settings) if isinstance(settings, TokenConfig) else JwtVerifier(settings)
    if isinstance(verifier, TokenVerifier):
        verifier.look()
    found = verifier.verify(text, Clock(0.0), time.time())
    if not isinstance(found, Identity):
        print(f"{dialect} refuses it: {found.value}", file=sys.stderr)
        return EXIT_CONFIG
    left = found.expires_at - time.time()
    print(f"{dialect} accepts it" + (f", for {left:.0f} s" if left < float("inf") else ", without end"))
    return EXIT_OK


def _only_dialect(config: Config) -> str:
    gateway = config.gateway
    found = [name for name in DIALECTS if getattr(gateway, name, None) is not None]
    return found[0] if found and "rowcast" not in found else "rowcast"


def _settings(config: Config, dialect: str) -> JwtConfig | TokenConfig:
    if dialect in ("rowcast", "mqtt"):
        found = [one.security.token_config for one in config.listeners if one.security.tokens]
        if config.gateway.rowcast is not None:
            found.insert(0, config.gateway.rowcast.tokens)
        for settings in found:
            if settings.is_set:
                return settings
        raise TokenError("nobody can show a token here: add [tokens] with `secrets = [...]`")
    set_up = getattr(config.gateway, dialect)
    jwt_config: JwtConfig | None = None if set_up is None else set_up.jwt
    if jwt_config is None:
        raise TokenError(f"{dialect} takes no tokens here: add [websocket.{dialect}] with `jwt`")
    return jwt_config


def _lines(paths: tuple[Path, ...]) -> list[str]:
    try:
        return [line for path in paths for line in path.read_text().split("\n") if line]
    except OSError as error:
        raise TokenError(f"{error.filename} can't be read: {error.strerror}") from None

"""Who may connect to a listener and what they may do there: password_file, acl_file, certificates, anonymous clients.

`Rules` are what the files of one `Security` say; `Authenticator` asks them for one listener.  A file that cannot be
read or is broken stops the start; at a reload it leaves the old rules in force, so that no mistake ever opens the door.

Hot: every CONNECT is asked about, so these are plain classes.
"""

from __future__ import annotations

import logging
import math
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from broker.config.model import Security
from broker.config.steps import Steps, finished
from broker.core.access import Access, ReadOnly
from broker.core.acl import Acl, Filters, GrantedAccess, TokenGone
from broker.gateway.acl_file import AclError, read_acl
from broker.gateway.passwords import Hash, PasswordFileError, read_passwords_in_steps
from protocol.dialects.base import Clock, Refusal
from protocol.grants import grants_of
from protocol.mistakes import Mistake, Mistaken
from protocol.mqtt.packets import ConnectReturnCode

if TYPE_CHECKING:
    from broker.gateway.tokens import TokenVerifier

UNIX_CLOCK = Clock(0.0)

ACCEPTED: Final[int] = ConnectReturnCode.ACCEPTED.value

logger = logging.getLogger("broker.gateway")


class RulesError(Mistaken):
    """Every mistake of a password_file and an acl_file, each as `Error: … Found at FILE:LINE. …`."""


class Verdict:
    """Whether a client may connect.  Never changes.

    Args:
        user_name: the one to go by from here on.
        return_code: CONNACK's, 0 if accepted.
        reason: for the log, never for the client.
        credential: what to show to `Authenticator.is_still_valid` after a reload.
        by_token: by the token that it showed as its password.
        access: what its token allows; None where the rules of the listener say it.
    """

    def __init__(
        self,
        user_name: bytes | None = None,
        return_code: int = ACCEPTED,
        reason: str = "",
        credential: str = "",
        by_token: bool = False,
        access: Access | None = None,
        expires_unix_s: float = math.inf,
    ) -> None:
        self.user_name = user_name
        self.return_code = return_code
        self.reason = reason
        self.credential = credential
        self.by_token = by_token
        self.access = access
        self.expires_unix_s = expires_unix_s
        self.accepted = return_code == ACCEPTED


NOBODY: Final = Verdict()
"""May connect, without a name."""

NAMELESS: Final = b"-"
"""The user name of whoever shows a token that names nobody: what such a client calls itself proves nothing."""


_Files: TypeAlias = tuple[Mapping[bytes, Hash] | None, Acl | None]
"""What the two say; None where there is no such file."""


class Rules:
    """What the password_file and acl_file of one `Security` said when they were read.  Never changes."""

    def __init__(self, security: Security, files: _Files | None = None) -> None:
        """Take what the files say, or read both.

        Raises:
            RulesError: one cannot be read, or is wrong.
        """
        self._security = security
        self._users, self._acl = finished(_read(security)) if files is None else files
        self.tokens: TokenVerifier | None = None
        if security.tokens:
            from broker.gateway.tokens import TokenVerifier, UnusableKey

            try:
                self.tokens = TokenVerifier(security.token_config)
            except UnusableKey as error:
                raise RulesError(Mistake(f"Error: {error}", option=error.option)) from None

    @property
    def has_users(self) -> bool:
        """Whether there is a password_file at all."""
        return self._users is not None

    @property
    def restricts_reading(self) -> bool:
        """Whether some client may be forbidden to read something: there is an acl_file."""
        return self._acl is not None or self.tokens is not None

    @property
    def restricts_writing(self) -> bool:
        """Whether some client may be forbidden to publish something."""
        return self.restricts_reading or self._security.anonymous_access == "read"

    def parts(self) -> list[object]:
        """What was read, entry by entry, for whoever lets go of a long file a little at a time."""
        users, acl = self._users, self._acl
        return [*(users or {}).values(), *(() if acl is None else acl.users.values())]

    def hash_of(self, user_name: bytes) -> Hash | None:
        """The user's stored password; None where the user is unknown."""
        users = self._users
        return None if users is None else users.get(user_name)

    def access_for(self, user_name: bytes | None, client_id: bytes) -> Access | None:
        """What that client may read and write; None where nothing is forbidden.  Ask again after a reload."""
        if self.tokens is not None and user_name is not None and self.hash_of(user_name) is None:
            return TokenGone()
        if self._acl is not None:
            return self._acl.access(user_name, client_id)
        if user_name is None and self._security.anonymous_access == "read":
            return ReadOnly()
        return None


def load_rules(securities: Iterable[Security]) -> dict[Security, Rules]:
    """The rules of several listeners; those with the same files share one object.

    Raises:
        RulesError: with the mistakes of all files.
    """
    return finished(load_in_steps(securities))


def load_in_steps(securities: Iterable[Security]) -> Steps[dict[Security, Rules]]:
    """As `load_rules`."""
    rules: dict[Security, Rules] = {}
    shared: dict[tuple[object, ...], Rules] = {}
    mistakes: list[str] = []
    for security in securities:
        files = (
            security.password_file,
            security.acl_file,
            security.anonymous_access,
            security.tokens,
            security.token_config,
            security.acl_patterns_allow_slash,
        )
        try:
            if files not in shared:
                shared[files] = Rules(security, (yield from _read(security)))
            rules[security] = shared[files]
        except RulesError as error:
            mistakes.extend(mistake for mistake in error.mistakes if mistake not in mistakes)
    if mistakes:
        raise RulesError(*mistakes)
    return rules


def reload_rules(securities: Iterable[Security]) -> dict[Security, Rules] | None:
    """The rules of all listeners, read again; None where a file is broken: keep the old ones, the log says why."""
    try:
        return load_rules(securities)
    except RulesError as error:
        for mistake in error.mistakes:
            logger.error("%s", mistake)
        logger.error("The rules read before stay in force.")
        return None


class Authenticator:
    """Decides about the clients of one listener.  Safe to be asked from a thread."""

    def __init__(self, rules: Rules, *, allow_anonymous: bool, certificate_wanted: bool = False) -> None:
        """`certificate_wanted`: use_identity_as_username or use_subject_as_username."""
        self.rules = rules
        self.allow_anonymous = allow_anonymous
        self.certificate_wanted = certificate_wanted

    def needs_thread(self, user_name: bytes | None) -> bool:
        """Whether `check` would hold the loop for long: then call it in a thread."""
        if user_name is None or self.certificate_wanted:
            return False
        stored = self.rules.hash_of(user_name)
        return stored is not None and stored.slow

    def check(
        self, user_name: bytes | None, password: bytes | None, certificate_identity: bytes | None = None
    ) -> Verdict:
        """Decide about a CONNECT.

        Args:
            user_name, password: as sent; None where the flag is not set.
            certificate_identity: common name or subject of the verified certificate; None without one.
        """
        if self.certificate_wanted:
            if certificate_identity is None:
                return _refused("no identity in a certificate", ConnectReturnCode.BAD_USER_NAME_OR_PASSWORD)
            return Verdict(certificate_identity)
        tokens = self.rules.tokens
        is_in_file = user_name is not None and self.rules.hash_of(user_name) is not None
        if tokens is not None and password is not None and not is_in_file:
            return _by_token(tokens, password)
        if user_name is None or not self.rules.has_users:
            return self._without_password(user_name)
        stored = self.rules.hash_of(user_name)
        if stored is None:
            return _refused("unknown user")
        if not password:
            # As mosquitto: an empty one opens nothing, even where the file has its hash.
            return _refused("no password")
        if not stored.verify(password):
            return _refused("wrong password")
        return Verdict(user_name, credential=stored.encode())

    def _without_password(self, user_name: bytes | None) -> Verdict:
        if self.allow_anonymous:
            return NOBODY if user_name is None else Verdict(user_name)
        # As mosquitto: without a password_file a name proves nothing.
        return _refused("no user name" if user_name is None else "no password_file to find the user in")

    def may_come(self, user_name: bytes | None) -> bool:
        """Whether a client of this name could be let in, if it showed the right thing."""
        if self.certificate_wanted:
            return True
        rules = self.rules
        if user_name is None or not rules.has_users:
            return self.allow_anonymous or (user_name is not None and rules.tokens is not None)
        return rules.tokens is not None or rules.hash_of(user_name) is not None

    def is_still_valid(self, verdict: Verdict) -> bool:
        """Whether a client that was let in may stay after a reload: its entry in the file is the same."""
        if self.certificate_wanted:
            return True
        if verdict.by_token:
            return self.rules.tokens is not None
        if verdict.user_name is None or not self.rules.has_users:
            return self.allow_anonymous
        stored = self.rules.hash_of(verdict.user_name)
        return stored is not None and stored.encode() == verdict.credential


def _by_token(tokens: TokenVerifier, password: bytes) -> Verdict:
    """Decide about a client by the token that it shows as its password; the name beside it may be anything."""
    found = tokens.verify(password.decode(errors="replace"), UNIX_CLOCK, time.time())
    if isinstance(found, Refusal):
        return _refused(f"{found.value} token")
    grants = grants_of(found.claims, found.account)
    access = GrantedAccess(Filters(grants.subscribe), Filters(grants.publish))
    name = found.account.encode(errors="replace") or NAMELESS
    return Verdict(name, by_token=True, access=access, expires_unix_s=found.expires_at)


def _refused(reason: str, code: int = ConnectReturnCode.NOT_AUTHORIZED) -> Verdict:
    return Verdict(return_code=code, reason=reason)


def _read(security: Security) -> Steps[_Files]:
    mistakes: list[str] = []
    users: Mapping[bytes, Hash] | None = None
    acl: Acl | None = None
    if security.password_file is not None:
        try:
            users = yield from read_passwords_in_steps(security.password_file)
            _warn_if_public(security.password_file)
        except PasswordFileError as error:
            mistakes.extend(error.mistakes)
    if security.acl_file is not None:
        try:
            acl = yield from read_acl(security.acl_file, security.acl_patterns_allow_slash)
            for warning in acl.warnings:
                logger.warning("Warning: %s", warning)
        except AclError as error:
            mistakes.extend(error.mistakes)
    if mistakes:
        raise RulesError(*mistakes)
    return users, acl


def _warn_if_public(path: Path) -> None:
    if path.stat().st_mode & stat.S_IROTH:
        logger.warning("Warning: File %s has world readable permissions. Cure: `chmod o-rwx %s`.", path, path)

"""password_file: the hashes that mosquitto_passwd writes, checked and made with the standard library.

`$7$ITERATIONS$SALT$HASH` is PBKDF2 with SHA-512, `$6$SALT$HASH` one round of SHA-512 over password and salt, both in
base64; `$argon2id$…` needs the package argon2-cffi.  A hash that is read is whole: nothing is guessed at login.

Source: files written by mosquitto_passwd 2.0.11 and 2.1.2.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Protocol

from broker.config.files import read_in_steps
from broker.config.steps import Steps, blocks_of_lines, finished
from protocol.mistakes import Mistake, Mistaken, mistake_found_at

HASH_BYTES = 64
SALT_BYTES = 12
ITERATIONS_DEFAULT = 1000
"""As mosquitto_passwd 2.1; `rowcast passwd -I` takes more."""

ITERATIONS_ON_THE_LOOP_MAX = 20_000
"""8 ms of hashing here; what takes longer must not hold the loop."""

ARGON2_MISSING = "argon2id needs the package argon2-cffi: install it, or hash again with `-H sha512-pbkdf2`."


class PasswordFileError(Mistaken):
    """Every mistake of a password_file, each as `Error: … Found at FILE:LINE. …`.  No hash is ever in it."""


class Hash(Protocol):
    """One stored password."""

    @property
    def slow(self) -> bool:
        """Whether checking takes long enough to be done in a thread."""

    def verify(self, password: bytes) -> bool:
        """Whether it is of this password."""

    def encode(self) -> str:
        """As it stands in the file."""


class Sha512:
    """`$6$`: what Mosquitto 1.6 wrote.  One round: good for reading old files only."""

    slow = False

    def __init__(self, salt: bytes, digest: bytes) -> None:
        self._salt = salt
        self._digest = digest

    @staticmethod
    def make(password: bytes) -> Sha512:
        """A hash of the password with a new salt, for a password file."""
        salt = secrets.token_bytes(SALT_BYTES)
        return Sha512(salt, hashlib.sha512(password + salt).digest())

    def verify(self, password: bytes) -> bool:
        """Whether this is the password; takes the same time whatever differs."""
        return hmac.compare_digest(hashlib.sha512(password + self._salt).digest(), self._digest)

    def encode(self) -> str:
        """As it stands in a password file: `$6$SALT$HASH`, both in base64."""
        return f"$6${_base64(self._salt)}${_base64(self._digest)}"


class Pbkdf2:
    """`$7$`: PBKDF2 with SHA-512."""

    def __init__(self, iterations: int, salt: bytes, digest: bytes) -> None:
        self._iterations = iterations
        self._salt = salt
        self._digest = digest
        self.slow = iterations > ITERATIONS_ON_THE_LOOP_MAX
        self._encoded = ""

    @staticmethod
    def make(password: bytes, iterations: int = ITERATIONS_DEFAULT) -> Pbkdf2:
        """A hash of the password with a new salt, for a password file."""
        salt = secrets.token_bytes(SALT_BYTES)
        return Pbkdf2(iterations, salt, hashlib.pbkdf2_hmac("sha512", password, salt, iterations, HASH_BYTES))

    def verify(self, password: bytes) -> bool:
        """Whether this is the password; takes the same time whatever differs."""
        found = hashlib.pbkdf2_hmac("sha512", password, self._salt, self._iterations, HASH_BYTES)
        return hmac.compare_digest(found, self._digest)

    def encode(self) -> str:
        """As it stands in a password file: `$7$ITERATIONS$SALT$HASH`, the last two in base64."""
        if not self._encoded:  # asked for at each login
            self._encoded = f"$7${self._iterations}${_base64(self._salt)}${_base64(self._digest)}"
        return self._encoded


class Argon2:
    """`$argon2id$`: Mosquitto 2.1 with `-H argon2id`."""

    slow = True

    def __init__(self, encoded: str) -> None:
        import argon2

        argon2.extract_parameters(encoded)  # refuses what is not whole
        self._encoded = encoded
        self._hasher = argon2.PasswordHasher()

    @staticmethod
    def make(password: bytes) -> Argon2:
        """A hash of the password with a new salt, for a password file; needs argon2-cffi."""
        import argon2

        # As mosquitto_passwd 2.1: one pass over 46 MiB, one lane.
        return Argon2(argon2.PasswordHasher(time_cost=1, memory_cost=47104, parallelism=1).hash(password))

    def verify(self, password: bytes) -> bool:
        """Whether this is the password."""
        from argon2.exceptions import Argon2Error

        try:
            return bool(self._hasher.verify(self._encoded, password))
        except Argon2Error:
            return False

    def encode(self) -> str:
        """As it stands in a password file, in the format of argon2 itself."""
        return self._encoded


def decode_hash(encoded: str) -> Hash:
    """The hash that stands after a user's name.

    Raises:
        ValueError: it is none, or not whole; the text says what would be right.
    """
    if encoded.startswith("$argon2id$"):
        return _decode_argon2(encoded)
    parts = encoded.split("$")
    if encoded.startswith("$6$") and len(parts) == 4:
        return Sha512(_decoded(parts[2]), _decoded(parts[3], HASH_BYTES))
    if encoded.startswith("$7$") and len(parts) == 5:
        digits = parts[2]
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 10 and 0 < int(digits) < 1 << 31):
            raise ValueError(
                "The number of iterations is not a number above 0, or too high; hash the password again."
            )
        return Pbkdf2(int(digits), _decoded(parts[3]), _decoded(parts[4], HASH_BYTES))
    if not encoded.startswith("$"):
        raise ValueError("The password is not hashed; hash all of the file with `rowcast passwd -U FILE`.")
    raise ValueError("Only $6$, $7$ and $argon2id$ hashes are known; hash the password again.")


def _decode_argon2(encoded: str) -> Argon2:
    try:
        import argon2.exceptions
    except ImportError:
        raise ValueError(ARGON2_MISSING) from None
    try:
        return Argon2(encoded)
    except argon2.exceptions.InvalidHash:
        raise ValueError("The argon2id hash is not whole; hash the password again.") from None


def _decoded(text: str, size: int | None = None) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data or (size is not None and len(data) != size):
        raise ValueError("Salt or hash is not whole; hash the password again.")
    return data


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def users_in_steps(text: bytes, file: str) -> Steps[dict[bytes, Hash]]:
    """The users of a password_file and their hashes.  Lines that are blank, begin with # or have no colon are nothing.

    Raises:
        PasswordFileError: with every mistake; `file` is the name it gives them.
    """
    users: dict[bytes, Hash] = {}
    mistakes: list[str] = []
    for first, lines in blocks_of_lines(text):
        if first > 1:
            yield
        for number, line in enumerate(lines, first):
            if line.startswith(b"#") or b":" not in line:
                continue
            try:
                _take(users, line, file)
            except _Wrong as wrong:
                mistakes.append(mistake_found_at(f"{file}:{number}", str(wrong), wrong.cure))
    if mistakes:
        raise PasswordFileError(*mistakes)
    return users


def _take(users: dict[bytes, Hash], line: bytes, file: str) -> None:
    name, stored = _user(line, file)
    if name in users:
        raise _Wrong(f"Duplicate user '{_shown(name)}' in password file '{file}'.", "Delete one of the two.")
    users[name] = _hash(stored, file)


class _Wrong(Exception):
    def __init__(self, text: str, cure: str) -> None:
        super().__init__(text)
        self.cure = cure


def _user(line: bytes, file: str) -> tuple[bytes, bytes]:
    name, _, stored = line.partition(b":")
    name, stored = name.strip(), stored.partition(b":")[0].strip()
    if not name and b":" not in stored and line.startswith(b":"):
        raise _Wrong(
            f"Invalid line in password file '{file}'.", "Write the user's name in front of the colon."
        )
    if not name:
        raise _Wrong(
            f"Empty username in password file '{file}'.", "Write the user's name in front of the colon."
        )
    if not stored:
        raise _Wrong(
            f"Invalid line in password file '{file}'.", "Set a password with `rowcast passwd FILE USER`."
        )
    return name, stored


def _hash(stored: bytes, file: str) -> Hash:
    try:
        return decode_hash(stored.decode("ascii", "replace"))
    except ValueError as error:
        raise _Wrong(f"Unable to decode line in password file '{file}'.", str(error)) from None


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def read_passwords(path: Path) -> dict[bytes, Hash]:
    """The users of that file.

    Raises:
        PasswordFileError: also where the file cannot be read.
    """
    return finished(read_passwords_in_steps(path))


def read_passwords_in_steps(path: Path) -> Steps[dict[bytes, Hash]]:
    """As `read_passwords`."""
    try:
        text = yield from read_in_steps(path)
    except OSError as error:
        said = f'Error: Unable to open pwfile "{path}". {error.strerror}.'
        raise PasswordFileError(Mistake(said, option=("password_file", str(path)))) from None
    return (yield from users_in_steps(text, str(path)))

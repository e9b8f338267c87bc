"""`rowcast passwd`: makes and changes password files, with the options and words of mosquitto_passwd."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from broker.gateway.passwords import (
    ARGON2_MISSING,
    ITERATIONS_DEFAULT,
    Argon2,
    Hash,
    Pbkdf2,
    Sha512,
)

HASHES = ("sha512-pbkdf2", "argon2id", "sha512")
USER_NAME_BYTES_MAX = 65535


class PasswdError(Exception):
    """Why nothing was changed."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make `passwd` known to the command line."""
    parser = subparsers.add_parser(
        "passwd",
        help="make and change password files",
        description="Manages password files, as mosquitto_passwd does.",
        usage=(
            "rowcast passwd [-H HASH] [-I N] [-c | -D] passwordfile username\n"
            "       rowcast passwd [-H HASH] [-I N] [-c] -b passwordfile username password\n"
            "       rowcast passwd [-H HASH] [-I N] -U passwordfile"
        ),
        epilog=(
            "examples:\n"
            "  rowcast passwd -c passwd ada     make a file with a user, and ask for the password\n"
            "  rowcast passwd passwd bob        add a user, or change the password\n"
            "  rowcast passwd -D passwd bob     take a user away"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-b", action="store_true", dest="batch", help="take the password from the command line"
    )
    parser.add_argument(
        "-c", action="store_true", dest="create", help="make a new file; overwrites an old one"
    )
    parser.add_argument("-D", action="store_true", dest="delete", help="delete the user")
    parser.add_argument(
        "-U", action="store_true", dest="update", help="hash the passwords of a plain text file"
    )
    parser.add_argument(
        "-H", choices=HASHES, default=HASHES[0], dest="hash", help="hash; default: %(default)s"
    )
    parser.add_argument(
        "-I",
        type=int,
        default=ITERATIONS_DEFAULT,
        dest="iterations",
        help="iterations of sha512-pbkdf2; default: %(default)s",
    )
    parser.add_argument("words", nargs="*", metavar="passwordfile [username [password]]")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it.  Returns the exit status: 0, or 1 with one line on stderr."""
    try:
        _run(args)
    except PasswdError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _run(args: argparse.Namespace) -> None:
    _check_options(args)
    path = Path(args.words[0])
    if args.update:
        _rewrite(
            path, lambda lines: [_hashed_line(line, number, args) for number, line in enumerate(lines, 1)]
        )
        return
    user = args.words[1]
    _check_user_name(user)
    if args.delete:
        _rewrite(path, lambda lines: _without(lines, user))
        return
    if not args.create:
        _read(path)  # before somebody types a password for nothing
    password = args.words[2] if args.batch else _ask_password()
    line = f"{user}:{_make_hash(password, args).encode()}\n"
    if args.create:
        print(f"Adding password for user {user}")
        _write(path, line)
        return
    _rewrite(path, lambda lines: _with(lines, user, line))


def _check_options(args: argparse.Namespace) -> None:
    chosen = [name for name in ("create", "delete", "update") if getattr(args, name)]
    letters = {"create": "-c", "delete": "-D", "update": "-U"}
    if len(chosen) > 1:
        raise PasswdError(f"Error: {letters[chosen[0]]} and {letters[chosen[1]]} cannot be used together.")
    if args.delete and args.batch:
        raise PasswdError("Error: -b and -D cannot be used together.")
    if args.iterations < 1:
        raise PasswdError("Error: Number of iterations must be > 0.")
    wanted = ["password file"] if args.update else ["password file", "username"]
    if args.batch and not args.update:
        wanted.append("password")
    if len(args.words) != len(wanted):
        raise PasswdError(f"Error: Give {', '.join(wanted)} after the options, and nothing else.")


def _check_user_name(user: str) -> None:
    if len(user.encode("utf-8", "surrogateescape")) > USER_NAME_BYTES_MAX:
        raise PasswdError("Error: Username must be less than 65536 characters long.")
    if not user.strip() or any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in user):
        raise PasswdError("Error: Username must not be empty or contain control characters.")
    if ":" in user:
        raise PasswdError("Error: Username must not contain the ':' character.")


def _ask_password() -> str:
    try:
        password = getpass.getpass("Password: ")
        if not password:
            raise PasswdError("Error: Empty password.")
        if getpass.getpass("Reenter password: ") != password:
            raise PasswdError("Error: Passwords do not match.")
    except EOFError:
        raise PasswdError(
            "Error: No password given. Type it where it is asked for, or give it by -b, behind the user."
        ) from None
    return password


def _make_hash(password: str, args: argparse.Namespace) -> Hash:
    data = password.encode("utf-8", "surrogateescape")
    if len(data) > USER_NAME_BYTES_MAX:
        raise PasswdError("Error: Password must be less than 65536 characters long.")
    if args.hash == "sha512":
        return Sha512.make(data)
    if args.hash == "sha512-pbkdf2":
        return Pbkdf2.make(data, args.iterations)
    try:
        return Argon2.make(data)
    except ImportError:
        raise PasswdError(f"Error: {ARGON2_MISSING}") from None


def _user_of(line: str) -> str | None:
    return None if line.startswith("#") or ":" not in line else line.partition(":")[0].strip()


def _without(lines: list[str], user: str) -> list[str]:
    left = [line for line in lines if _user_of(line) != user]
    if len(left) == len(lines):
        raise PasswdError(f"Warning: User {user} not found in password file.")
    return left


def _with(lines: list[str], user: str, new: str) -> list[str]:
    known = any(_user_of(line) == user for line in lines)
    print(f"{'Updating' if known else 'Adding'} password for user {user}")
    if known:
        return [new if _user_of(line) == user else line for line in lines]
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    return [*lines, new]


def _hashed_line(line: str, number: int, args: argparse.Namespace) -> str:
    user = _user_of(line)
    if user is None and (line.startswith("#") or not line.strip()):
        return line
    password = line.partition(":")[2].partition(":")[0].strip()
    if not user or not password:
        raise PasswdError(f"Error: Corrupt password file at line {number}.")
    if password.startswith(("$6$", "$7$", "$argon2id$")):
        return line
    return f"{user}:{_make_hash(password, args).encode()}\n"


def _rewrite(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    _write(path, "".join(change(_read(path))))


def _read(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return file.readlines()
    except OSError as error:
        cure = " Make a new one with -c." if isinstance(error, FileNotFoundError) else ""
        raise PasswdError(f"Error: Unable to open password file {path}. {error.strerror}.{cure}") from None


def _write(path: Path, text: str) -> None:
    """All or nothing: a file beside the old one takes its place, with its owner and rights; a new one is private."""
    path = path.resolve()
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
                if path.exists():
                    _take_rights_of(path, file.fileno())
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise PasswdError(f"Error: Unable to open file {path} for writing. {error.strerror}.") from None


def _take_rights_of(path: Path, descriptor: int) -> None:
    if not hasattr(os, "fchown"):
        return  # Windows: rights come from the folder
    known = path.stat()
    os.fchmod(descriptor, known.st_mode & 0o7777)
    if (known.st_uid, known.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(descriptor, known.st_uid, known.st_gid)

"""Single values, each in a table: what passes, and in which words the rest is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.toml_files import noted, reader_of

from broker.config.toml import checks
from broker.config.toml.reader import Reader, Unresolved

PATH = ("table", "key")


def told(check: Callable[[Reader], object]) -> list[str]:
    reader = reader_of()
    check(reader)
    return noted(reader)


@pytest.mark.parametrize(
    ("value", "mistakes"),
    [
        ("a", []),
        (None, []),
        ("c", ['key: "a" or "b" is wanted, not "c"']),
        ("", ['key: "a" or "b" is wanted, not ""']),
    ],
)
def test_a_choice(value: str | None, mistakes: list[str]) -> None:
    assert told(lambda reader: checks.check_choice(reader, PATH, value, ("a", "b"))) == mistakes


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("a", True),
        ("a_0", True),
        ("x" * 40, True),
        ("x" * 41, False),
        ("", False),
        ("A", False),
        ("a-b", False),
        ("a\n", False),
    ],
)
def test_a_name_that_can_be_a_slot_s(name: str, is_one: bool) -> None:
    wanted = [] if is_one else ["key: 1 to 40 of a-z, 0-9 and _ are wanted"]
    assert told(lambda reader: checks.check_name(reader, PATH, name)) == wanted


PARAMETERS = (
    'dsn: postgres://USER@HOST/DATABASE or "host=HOST dbname=DATABASE" is wanted,'
    " with no other parameters than libpq's"
)


@pytest.mark.parametrize(
    ("dsn", "mistakes"),
    [
        ("postgres://u@h/d", []),
        ("host=h port=5432,5433 sslmode=verify-full", []),
        ("host=h port=", []),
        (Unresolved("env:X"), []),
        (" ", ["dsn: it is empty, so no database is named: postgres://USER@HOST/DATABASE is wanted"]),
        ("host=h port=0", ["dsn: port: 1 to 65535 is wanted, not 0"]),
        ("host=h port=1,65536", ["dsn: port: 1 to 65535 is wanted, not 65536"]),
        ("host=h port=" + "9" * 5000, ["dsn: port: 1 to 65535 is wanted, not " + "9" * 20]),
        (
            "host=h sslmode=always",
            [
                "dsn: sslmode: disable or allow or prefer or require or verify-ca or verify-full is wanted,"
                " not always"
            ],
        ),
        ("host=h password=hunter2 pasword=x", [PARAMETERS]),
        ("h", [PARAMETERS]),
    ],
)
def test_a_connection_string_is_never_quoted(dsn: str, mistakes: list[str]) -> None:
    assert told(lambda reader: checks.check_dsn(reader, PATH, dsn)) == mistakes


@pytest.mark.parametrize(
    ("dsn", "password", "expected"),
    [
        ("host=h", "p w'", "host=h password='p w\\''"),
        ("postgres://u@h/d", "p", "user=u dbname=d host=h password=p"),
        ("host=h", "", "host=h"),
        ("host=h", Unresolved("env:X"), "host=h"),
        (Unresolved("env:X"), "p", "env:X"),
        ("h", "p", "h"),  # said of the dsn
    ],
)
def test_a_password_beside_a_connection_string_goes_into_it(dsn: str, password: str, expected: str) -> None:
    reader = reader_of()
    assert checks.with_password(reader, PATH, dsn, password) == expected
    assert reader.mistakes() == []


def test_two_passwords_are_one_too_many() -> None:
    reader = reader_of()
    assert checks.with_password(reader, PATH, "host=h password=a", "b") == "host=h password=a"
    assert noted(reader) == ["password: there is one in the dsn, too: leave one of them out"]


@pytest.mark.parametrize(
    ("secret", "is_one"),
    [("s" * 32, True), ("ü" * 16, True), ("s" * 31, False), ("", False), (Unresolved(""), True)],
)
def test_a_secret_has_32_bytes(secret: str, is_one: bool) -> None:
    wanted = "secret: at least 32 bytes are wanted, such as `openssl rand -hex 32` prints"
    assert told(lambda reader: checks.check_secret(reader, PATH, secret)) == ([] if is_one else [wanted])


def test_a_claim_that_is_misspelled_would_keep_everybody_out() -> None:
    names = ("iss", "sub", "aud", "exp", "nbf", "iat", "jti")
    assert told(lambda reader: checks.check_required_claims(reader, PATH, names)) == []
    [mistake] = told(lambda reader: checks.check_required_claims(reader, PATH, ("exp", "expires")))
    known = " or ".join(f'"{name}"' for name in names)
    assert mistake == f'require: {known} is wanted, not "expires"'


MIXED = "alg: HS256 and its like can't be mixed with algorithms that take a public key"
ALGORITHMS = " or ".join(
    f'"{name}"'
    for name in ("ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512")
)


@pytest.mark.parametrize(
    ("algorithms", "mistakes"),
    [
        (("HS256", "HS512"), []),
        (("RS256", "EdDSA"), []),
        ((), ['alg: at least one is wanted, such as "HS256"']),
        (("HS256", "ES256"), [MIXED]),
        (("none",), [f'alg: {ALGORITHMS} is wanted, not "none"']),
        (("PS256",), [f'alg: {ALGORITHMS} is wanted, not "PS256"']),
        (("HS256", "none"), [MIXED, f'alg: {ALGORITHMS} is wanted, not "none"']),
    ],
)
def test_what_tokens_may_be_signed_with(algorithms: tuple[str, ...], mistakes: list[str]) -> None:
    assert told(lambda reader: checks.check_algorithms(reader, PATH, algorithms)) == mistakes


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        (None, True),
        ("drop", True),
        ("_", True),
        ("a b", True),
        ("", False),
        ("a/b", False),
        ("+", False),
        ("a\0", False),
        ("\ud800", True),
    ],
)
def test_a_replacement_can_stand_as_a_level(value: str | None, is_one: bool) -> None:
    wanted = 'key: "drop" is wanted, or text to use instead, without / + # and not empty'
    found = told(lambda reader: checks.check_replacement(reader, PATH, value, ("drop",)))
    assert found == ([] if is_one else [wanted])


@pytest.mark.parametrize(
    ("text", "plain", "through_arrays"),
    [
        ("", (), ()),
        ("$", (), ()),
        ("$.a", ("a",), ("a",)),
        ("$.a.b-c", ("a", "b-c"), ("a", "b-c")),
        ("$.a[0]", None, ("a", "[0]")),
        ("$[-1].a", None, ("[-1]", "a")),
        ("$[999999]", None, ("[999999]",)),
        ("$[1000000]", None, None),
        ("$[01]", None, None),
        ("$[-0]", None, None),
        ("$.", None, None),
        ("a", None, None),
        ("$a", None, None),
        ("$..a", None, None),
        ("$.a b", None, None),
        ("$.*", None, None),
        ("$.a[*]", None, None),
    ],
)
def test_paths(text: str, plain: tuple[str, ...] | None, through_arrays: tuple[str, ...] | None) -> None:
    for read, expected in ((checks.json_path, plain), (checks.json_path_through_arrays, through_arrays)):
        reader = reader_of()
        assert read(reader, PATH, text) == (expected or ())
        assert bool(reader.mistakes()) == (expected is None), "a path that is none is told"


ADDRESS = 'key: "HOST:PORT" is wanted, such as "127.0.0.1:7001", or a port'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7001", ("127.0.0.1", 7001)),
        (":7001", ("127.0.0.1", 7001)),
        ("h:0", ("h", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("::1:1", ("::1", 1)),
        ("h", None),
        ("h:65536", None),
        ("h:", None),
        ("", None),
    ],
)
def test_an_address_is_on_loopback_unless_it_says_otherwise(text: str, expected: Any) -> None:
    reader = reader_of()
    assert checks.address_of(reader, PATH, text) == (expected or ("127.0.0.1", 0))
    assert noted(reader) == ([] if expected else [ADDRESS])


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("a/+/#", True),
        ("$SYS/#", True),
        (Unresolved("#a"), True),
        ("", False),
        ("a#", False),
        ("$share/g/a", False),
        ("$ws/canton/a", False),
        ("a\ud800", True),
    ],
)
def test_filters_are_those_that_clients_may_name(text: str, is_one: bool) -> None:
    reader = reader_of()
    checks.check_filters(reader, ("websocket", "filters"), ("ok", text))
    assert bool(reader.mistakes()) != is_one

"""Password files: those that mosquitto_passwd writes, those it would not, and what is said of them."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from support.rule_files import parse_passwords

from broker.gateway.passwords import (
    Argon2,
    PasswordFileError,
    Pbkdf2,
    Sha512,
    decode_hash,
    read_passwords,
)

MOSQUITTO_PASSWD = Path("/usr/bin/mosquitto_passwd")

PBKDF2 = Pbkdf2.make("pass word ü".encode(), 3).encode()
SHA512 = Sha512.make("pass word ü".encode()).encode()


@pytest.mark.parametrize(
    "stored",
    [PBKDF2, SHA512, Argon2.make("pass word ü".encode()).encode()],
    ids=["pbkdf2", "sha512", "argon2"],
)
def test_a_hash_takes_its_password_and_no_other(stored: str) -> None:
    kept = decode_hash(stored)
    assert kept.encode() == stored
    assert kept.verify("pass word ü".encode())
    assert not kept.verify(b"pass word u")
    assert not kept.verify(b"")


@pytest.mark.skipif(not MOSQUITTO_PASSWD.exists(), reason="no mosquitto_passwd to ask")
@pytest.mark.parametrize("kind", ["sha512", "sha512-pbkdf2"])
def test_what_mosquitto_passwd_writes_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    run = [str(MOSQUITTO_PASSWD), "-H", kind, "-c", "-b", str(path), "roger", "secret"]
    subprocess.run(run, check=True, capture_output=True)
    users = read_passwords(path)
    assert list(users) == [b"roger"]
    assert users[b"roger"].verify(b"secret")
    assert not users[b"roger"].verify(b"Secret")


@pytest.mark.parametrize(
    ("stored", "cure"),
    [
        ("secret", "is not hashed"),
        ("$5$salt$hash", "Only $6$, $7$"),
        ("$7$101$c2FsdA==", "Only $6$, $7$"),
        ("$7$0$c2FsdA==$" + "A" * 86 + "==", "number of iterations"),
        ("$7$x$c2FsdA==$" + "A" * 86 + "==", "number of iterations"),
        ("$7$101$$" + "A" * 86 + "==", "not whole"),
        ("$7$101$c2FsdA==$" + "A" * 84, "not whole"),
        ("$7$101$c2FsdA==$", "not whole"),
        ("$6$c2FsdA==$", "not whole"),
        ("$6$c2Fsd!==$" + "A" * 86 + "==", "not whole"),
        ("$argon2id$v=19$m=47104,t=1,p=1$", "not whole"),
    ],
)
def test_a_broken_entry_is_refused_with_its_line(stored: str, cure: str) -> None:
    with pytest.raises(PasswordFileError) as caught:
        parse_passwords(f"# users\n\nroger:{stored}\n".encode(), "passwords")
    (mistake,) = caught.value.mistakes
    assert mistake.startswith(
        "Error: Unable to decode line in password file 'passwords'. Found at passwords:3. "
    )
    assert cure in mistake
    assert stored not in mistake


def test_all_mistakes_come_at_once_and_no_hash_is_shown() -> None:
    text = f":{PBKDF2}\nroger:{PBKDF2}\nroger:{PBKDF2}\nempty:\n  :{PBKDF2}\nplain:secret\n"
    with pytest.raises(PasswordFileError) as caught:
        parse_passwords(text.encode(), "passwords")
    assert [said.split(". ")[0] for said in caught.value.mistakes] == [
        "Error: Invalid line in password file 'passwords'",
        "Error: Duplicate user 'roger' in password file 'passwords'",
        "Error: Invalid line in password file 'passwords'",
        "Error: Empty username in password file 'passwords'",
        "Error: Unable to decode line in password file 'passwords'",
    ]
    assert [said.partition("Found at passwords:")[2][0] for said in caught.value.mistakes] == list("13456")
    assert "secret" not in str(caught.value)
    assert PBKDF2 not in str(caught.value)


def test_blank_lines_comments_and_lines_without_a_colon_are_nothing() -> None:
    text = f"# a:b\n\nno colon\r\nroger : {PBKDF2} \r\n"
    assert list(parse_passwords(text.encode(), "passwords")) == [b"roger"]


def test_an_empty_hash_is_no_password() -> None:
    empty = base64.b64encode(b"").decode()
    with pytest.raises(ValueError, match="not whole"):
        decode_hash(f"$7$101$c2FsdA==${empty}")


def test_only_heavy_hashes_are_slow() -> None:
    digest = base64.b64encode(bytes(64)).decode()
    assert not decode_hash(f"$7$20000$c2FsdA==${digest}").slow
    assert decode_hash(f"$7$20001$c2FsdA==${digest}").slow
    assert not decode_hash(SHA512).slow
    assert Argon2.make(b"x").slow


def test_argon2_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    stored = Argon2.make(b"x").encode()
    for name in [name for name in sys.modules if name.partition(".")[0] == "argon2"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "argon2", None)
    with pytest.raises(ValueError, match="argon2-cffi"):
        decode_hash(stored)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(PasswordFileError, match=r'Unable to open pwfile ".*nowhere"'):
        read_passwords(tmp_path / "nowhere")


@pytest.mark.parametrize("iterations", ["9" * 5000, str(1 << 31), "0", "\u00b2", "-1", "1e3", ""])
def test_iterations_that_nothing_can_compute_are_refused_when_the_file_is_read(
    tmp_path: Path, iterations: str
) -> None:
    """Not at a login, where OpenSSL would refuse them."""
    path = tmp_path / "passwords"
    path.write_text(f"user:$7${iterations}$c2FsdA==${base64.b64encode(bytes(64)).decode()}\n")
    with pytest.raises(PasswordFileError, match="number of iterations"):
        read_passwords(path)

"""Who is let in, with which return code, and that no broken file ever lets anybody in."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from attrs import evolve

from broker.config.model import Security
from broker.gateway.authentication import Authenticator, Rules, RulesError, load_rules, reload_rules
from broker.gateway.passwords import Pbkdf2

PASSWORDS = f"roger:{Pbkdf2.make(b'secret', 2).encode()}\nslow:{Pbkdf2.make(b'secret', 20001).encode()}\n"


@pytest.fixture
def security(tmp_path: Path) -> Security:
    passwords, acl = tmp_path / "passwords", tmp_path / "acl"
    passwords.write_text(PASSWORDS)
    passwords.chmod(0o600)
    acl.write_text("topic read public\nuser roger\ntopic own\n")
    return Security(password_file=passwords, acl_file=acl)


def with_file(security: Security) -> Authenticator:
    return Authenticator(Rules(security), allow_anonymous=security.allow_anonymous)


@pytest.mark.parametrize(
    ("user", "password", "code", "reason"),
    [
        (b"roger", b"secret", 0, ""),
        (b"roger", b"Secret", 5, "wrong password"),
        (b"roger", b"", 5, "no password"),
        (b"roger", None, 5, "no password"),
        (b"nobody", b"secret", 5, "unknown user"),
        (b"", b"", 5, "unknown user"),
        (None, None, 5, "no user name"),
    ],
)
def test_the_password_file_decides(
    security: Security, user: bytes | None, password: bytes | None, code: int, reason: str
) -> None:
    verdict = with_file(security).check(user, password)
    assert (verdict.return_code, verdict.reason) == (code, reason)
    assert verdict.user_name == (user if code == 0 else None)


def test_anonymous_clients_pass_where_they_may_and_wrong_passwords_still_do_not(security: Security) -> None:
    open_door = Authenticator(Rules(security), allow_anonymous=True)
    assert open_door.check(None, None).accepted
    assert open_door.check(b"roger", b"Secret").return_code == 5
    assert open_door.check(b"nobody", b"").return_code == 5


def test_without_a_password_file_a_name_proves_nothing() -> None:
    rules = Rules(Security())
    assert Authenticator(rules, allow_anonymous=False).check(b"roger", b"secret").return_code == 5
    verdict = Authenticator(rules, allow_anonymous=True).check(b"roger", b"whatever")
    assert verdict.accepted
    assert verdict.user_name == b"roger"


def test_a_certificate_stands_for_name_and_password(security: Security) -> None:
    door = Authenticator(Rules(security), allow_anonymous=True, certificate_wanted=True)
    verdict = door.check(b"roger", b"wrong", b"device 7")
    assert verdict.accepted
    assert verdict.user_name == b"device 7"
    assert door.is_still_valid(verdict)
    assert door.check(b"roger", b"secret").return_code == 4


def test_heavy_hashes_are_for_a_thread(security: Security) -> None:
    door = with_file(security)
    assert door.needs_thread(b"slow")
    assert not door.needs_thread(b"roger")
    assert not door.needs_thread(b"nobody")
    assert not door.needs_thread(None)


def test_access_follows_the_acl_file(security: Security) -> None:
    rules = Rules(security)
    own, anonymous = rules.access_for(b"roger", b"c"), rules.access_for(None, b"c")
    assert own is not None
    assert anonymous is not None
    assert own.may_write(b"own")
    assert not own.may_read(b"public")
    assert anonymous.may_read(b"public") is not anonymous.may_write(b"own")


def test_without_an_acl_file_nothing_is_forbidden_but_what_the_listener_forbids() -> None:
    assert Rules(Security()).access_for(None, b"c") is None
    read_only = Rules(Security(anonymous_access="read"))
    access = read_only.access_for(None, b"c")
    assert access is not None
    assert not access.may_write(b"a")
    assert read_only.access_for(b"roger", b"c") is None


@pytest.mark.parametrize("broken", ["password_file", "acl_file"])
@pytest.mark.parametrize("how", ["gone", "a folder", "nonsense"])
def test_a_broken_file_stops_the_start(security: Security, broken: str, how: str) -> None:
    break_file(getattr(security, broken), how)
    with pytest.raises(RulesError, match="Error: ") as caught:
        Rules(security)
    assert str(getattr(security, broken)) in str(caught.value)


@pytest.mark.parametrize("broken", ["password_file", "acl_file"])
@pytest.mark.parametrize("how", ["gone", "a folder", "nonsense"])
def test_a_broken_file_at_a_reload_leaves_all_old_rules(
    security: Security, broken: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    break_file(getattr(security, broken), how)
    assert reload_rules([Security(), security]) is None
    assert str(getattr(security, broken)) in caplog.text
    assert "The rules read before stay in force." in caplog.text


def break_file(path: Path, how: str) -> None:
    path.unlink()
    if how == "a folder":
        path.mkdir()
    if how == "nonsense":
        path.write_text("nonsense:nonsense\n")


def reloaded(security: Security) -> Authenticator:
    rules = reload_rules([security])
    assert rules is not None
    return Authenticator(rules[security], allow_anonymous=security.allow_anonymous)


def test_a_client_that_is_no_longer_in_the_file_may_not_stay(security: Security) -> None:
    roger = with_file(security).check(b"roger", b"secret")
    assert reloaded(security).is_still_valid(roger)
    assert security.password_file is not None
    security.password_file.write_text(f"anna:{Pbkdf2.make(b'x', 2).encode()}\n")
    after = reloaded(security)
    assert not after.is_still_valid(roger)
    assert after.check(b"anna", b"x").accepted
    assert after.check(b"roger", b"secret").return_code == 5


def test_a_changed_password_ends_what_the_old_one_opened(security: Security) -> None:
    roger = with_file(security).check(b"roger", b"secret")
    assert security.password_file is not None
    security.password_file.write_text(f"roger:{Pbkdf2.make(b'new', 2).encode()}\n")
    assert not reloaded(security).is_still_valid(roger)


def test_anonymous_clients_stay_as_long_as_they_may(security: Security) -> None:
    nobody = Authenticator(Rules(security), allow_anonymous=True).check(None, None)
    assert reloaded(evolve(security, allow_anonymous=True)).is_still_valid(nobody)
    assert not reloaded(security).is_still_valid(nobody)


def test_who_is_away_might_come_back_if_its_name_is_let_in(security: Security) -> None:
    strict, without_file = with_file(security), Rules(Security())
    assert strict.may_come(b"roger")
    assert not strict.may_come(b"nobody")
    assert not strict.may_come(None)
    assert Authenticator(without_file, allow_anonymous=True).may_come(b"roger")
    assert not Authenticator(without_file, allow_anonymous=False).may_come(b"roger")
    assert Authenticator(without_file, allow_anonymous=False, certificate_wanted=True).may_come(b"roger")
    assert Authenticator(Rules(security), allow_anonymous=True).may_come(None)


def test_listeners_with_the_same_files_share_them(security: Security, tmp_path: Path) -> None:
    other = evolve(security, allow_anonymous=True)
    rules = load_rules([security, other, Security()])
    assert rules[security] is rules[other]
    assert rules[Security()] is not rules[security]
    with pytest.raises(RulesError) as caught:
        load_rules([Security(acl_file=tmp_path / "a"), Security(password_file=tmp_path / "b")])
    assert len(caught.value.mistakes) == 2


def test_a_password_file_that_everybody_can_read_is_warned_about(
    security: Security, caplog: pytest.LogCaptureFixture
) -> None:
    assert security.password_file is not None
    security.password_file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        Rules(security)
    assert "world readable" in caplog.text


def test_no_password_is_shown(security: Security) -> None:
    verdict = with_file(security).check(b"roger", b"secret")
    assert "secret" not in repr(verdict)
    assert "$7$" not in repr(verdict)


def test_an_empty_password_opens_nothing_even_where_the_file_has_its_hash(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text(f"roger:{Pbkdf2.make(b'', 2).encode()}\n")
    door = Authenticator(Rules(Security(password_file=passwords)), allow_anonymous=False)
    assert door.check(b"roger", b"").return_code == 5
    assert door.check(b"roger", None).return_code == 5

"""Names in certificates: as OpenSSL prints them, and none in what is no certificate."""

from __future__ import annotations

import shutil
import ssl
import subprocess

import pytest
from support.certificates import Authority

from protocol.certificate import common_name, public_key_bytes, subject

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("ca"))
    made.issue("client", "/C=DE/O=Example/CN=device 7")
    return made


SUBJECTS = [
    "/CN=plain",
    "/C=DE/O=Example/OU=A/OU=B/CN=device 7",
    "/O=Ex, ample+; <>\\\\/CN= leading and trailing ",
    '/CN=#hash"quote"',
    "/O=Bücher & Söhne/CN=日本",
    "/1.2.3.4=unlisted/2.5.4.26=seldom/CN=a",
    "/O=One+OU=Two/CN=three+emailAddress=a@example.org",
]


@pytest.mark.parametrize("wanted", SUBJECTS)
def test_the_subject_is_printed_as_openssl_prints_it(authority: Authority, wanted: str) -> None:
    wanted = wanted.replace("Ex, ample+;", "Ex, ample\\+;")
    certificate, _ = authority.issue("subject", wanted)
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    run = subprocess.run(
        ["openssl", "x509", "-in", certificate, "-noout", "-subject", "-nameopt", "RFC2253"],
        check=True,
        capture_output=True,
    )
    assert subject(der) == run.stdout.removeprefix(b"subject=").rstrip(b"\n")


def test_a_certificate_without_a_common_name_has_none(authority: Authority) -> None:
    certificate, _ = authority.issue("nameless", "/O=Example")
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    assert common_name(der) is None
    assert subject(der) == b"O=Example"


def test_bytes_that_are_no_certificate_have_no_name(authority: Authority) -> None:
    der = ssl.PEM_cert_to_DER_cert((authority.folder / "client.crt").read_text())
    whole = common_name(der)
    for size in range(0, len(der), 7):
        assert common_name(der[:size]) in (None, whole)
        assert common_name(der[size + 1 :]) in (None, whole)


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return bytes((tag, 0x82)) + len(content).to_bytes(2, "big") + content


def _certificate(*names: bytes, version: bytes = b"\xa0\x03\x02\x01\x02") -> bytes:
    """What RFC 5280 §4.1 has up to the public key, which is 4 bytes here; `names` are the subject's sets."""
    fields = (b"\x02\x01\x07", b"\x30\x00", b"\x30\x00", b"\x30\x00", _der(0x30, *names), b"\x30\x02\x05\x00")
    return _der(0x30, _der(0x30, version, *fields))


def _name(text: bytes, *, tag: int = 12, kind: bytes = b"\x55\x04\x03") -> bytes:
    attribute = _der(0x06, kind) + _der(tag, text)
    return _der(0x31, _der(0x30, attribute))


@pytest.mark.parametrize(
    ("name", "common", "printed"),
    [
        (_name(b"a"), b"a", b"CN=a"),
        (_name(b"a") + _name(b"b"), b"a", b"CN=b,CN=a"),
        (_name(b"B\xfcrger", tag=19), None, b"CN=B\\C3\\BCrger"),
        (_name(b"\0a", tag=30), None, b"CN=a"),
        (_name(b"\0\0\0a", tag=28), None, b"CN=a"),
        (_name(b"a", tag=4), b"a", b"CN=#040161"),
        (_name(b"a", kind=b"\x88\x37\x03"), None, b"2.999.3=#0C0161"),
        (_name(b""), None, b"CN="),
        (_name(b"a\nb"), None, b"CN=a\\0Ab"),
        (_name(b" a "), b" a ", b"CN=\\ a\\ "),
        (_name(b"#a#"), b"#a#", b"CN=\\#a#"),
        (_name(b"a\x7f"), None, b"CN=a\\7F"),
        (_name(b"a "), b"a ", b"CN=a\\ "),
        (_name(b"a~"), b"a~", b"CN=a~"),
        (_name("\x80".encode()), None, b"CN=\\C2\\80"),
        (_name("\xa0".encode()), "\xa0".encode(), b"CN=\\C2\\A0"),
        (_name(b"a" * 200, tag=4), b"a" * 200, b"CN=#0481C8" + b"61" * 200),
        (b"", None, None),
    ],
)
def test_a_name_is_told_by_its_encoding(name: bytes, common: bytes | None, printed: bytes | None) -> None:
    for version in (b"\xa0\x03\x02\x01\x02", b""):  # version 1 does not say its version
        der = _certificate(name, version=version)
        assert common_name(der) == common
        assert subject(der) == printed
        assert public_key_bytes(der) == 2


def test_bytes_that_are_no_certificate_have_no_key_either() -> None:
    assert public_key_bytes(b"") == 0
    assert public_key_bytes(b"\x30\x80") == 0
    assert public_key_bytes(b"\x30\x03\x30\x01\x30") == 0

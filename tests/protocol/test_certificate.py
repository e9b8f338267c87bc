"""Names in certificates: as OpenSSL prints them, and none in what is no certificate."""

from __future__ import annotations

import shutil
import ssl
import subprocess

import pytest
from support.certificates import Authority

from protocol.certificate import common_name, subject

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

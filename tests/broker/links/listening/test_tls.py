"""TLS as Mosquitto's options mean it: handshakes in memory, wrong files, and who is named."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from attrs import evolve
from support.certificates import Authority

from broker.config.model import Tls
from broker.links.listening.tls import TlsError, peer_identity, server_context

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("ca"))
    made.issue("server", "/CN=localhost", host=True)
    made.issue("client", "/C=DE/O=Example/CN=device 7")
    made.issue("expired", "/CN=old", expired=True)
    made.issue("revoked", "/CN=stolen")
    made.revoke("revoked")
    return made


@pytest.fixture
def tls(authority: Authority) -> Tls:
    folder = authority.folder
    return Tls(folder / "server.crt", folder / "server.key", cafile=authority.ca, require_certificate=True)


def shake_hands(tls: Tls, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after the handshake; ssl.SSLError from whichever end refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_end = server_context(tls).wrap_bio(to_server, to_client, server_side=True)
    client_end = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    waiting = [client_end, server_end]
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                continue
    assert not waiting
    return server_end, client_end


def client_context(authority: Authority, name: str | None = "client") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.ca)
    if name is not None:
        context.load_cert_chain(authority.folder / f"{name}.crt", authority.folder / f"{name}.key")
    return context


def test_a_client_with_a_certificate_comes_in(tls: Tls, authority: Authority) -> None:
    server_end, client_end = shake_hands(tls, client_context(authority))
    assert client_end.version() == "TLSv1.3"
    assert peer_identity(tls, server_end) is None
    assert peer_identity(evolve(tls, use_identity_as_username=True), server_end) == b"device 7"
    assert (
        peer_identity(evolve(tls, use_subject_as_username=True), server_end) == b"CN=device 7,O=Example,C=DE"
    )


def test_without_require_certificate_none_is_asked_for(tls: Tls, authority: Authority) -> None:
    tls = evolve(tls, require_certificate=False, use_identity_as_username=True)
    server_end, _ = shake_hands(tls, client_context(authority))
    assert peer_identity(tls, server_end) is None


@pytest.mark.parametrize(
    ("name", "said"), [(None, "did not return a certificate"), ("expired", "expired"), ("revoked", "revoked")]
)
def test_a_certificate_that_is_missing_expired_or_revoked_is_refused(
    tls: Tls, authority: Authority, name: str | None, said: str
) -> None:
    tls = evolve(tls, crlfile=authority.folder / "revoked.crl")
    with pytest.raises(ssl.SSLError, match=said):
        shake_hands(tls, client_context(authority, name))


def test_a_strangers_certificate_is_refused(tls: Tls, authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "Another CA")
    certificate, key = stranger.issue("client", "/CN=device 7")
    context = ssl.create_default_context(cafile=authority.ca)
    context.load_cert_chain(certificate, key)
    with pytest.raises(ssl.SSLError, match="certificate"):
        shake_hands(tls, context)


def test_dates_are_not_checked_where_that_is_switched_off(tls: Tls, authority: Authority) -> None:
    tls = evolve(tls, disable_client_cert_date_checks=True, crlfile=authority.folder / "revoked.crl")
    shake_hands(tls, client_context(authority, "expired"))
    with pytest.raises(ssl.SSLError, match="revoked"):
        shake_hands(tls, client_context(authority, "revoked"))


def test_a_folder_of_authorities_serves_too(tls: Tls, authority: Authority, tmp_path: Path) -> None:
    shutil.copy(authority.ca, tmp_path / "ca.pem")
    subprocess.run(["openssl", "rehash", tmp_path], check=True)
    shake_hands(evolve(tls, cafile=None, capath=tmp_path), client_context(authority))


def test_the_oldest_version_is_the_one_that_is_named(tls: Tls, authority: Authority) -> None:
    old = client_context(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    _, client_end = shake_hands(evolve(tls, tls_version="tlsv1.2"), old)
    assert client_end.version() == "TLSv1.2"
    with pytest.raises(ssl.SSLError, match="protocol"):
        shake_hands(evolve(tls, tls_version="tlsv1.3"), old)


def test_the_ciphers_are_those_that_are_named(tls: Tls, authority: Authority) -> None:
    old = client_context(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    _, client_end = shake_hands(evolve(tls, ciphers="ECDHE-ECDSA-AES256-GCM-SHA384"), old)
    assert (client_end.cipher() or [""])[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
    server_context(evolve(tls, ciphers_tls13="TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"))


def test_a_dhe_key_exchange_that_is_asked_for_works(tmp_path: Path) -> None:
    certificate, key = tmp_path / "rsa.crt", tmp_path / "rsa.key"
    made = "req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(
        ["openssl", *made.split(), "-out", certificate, "-keyout", key], check=True, capture_output=True
    )
    client = ssl.create_default_context(cafile=certificate)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("DHE-RSA-AES256-GCM-SHA384")
    _, client_end = shake_hands(Tls(certificate, key, ciphers="DHE-RSA-AES256-GCM-SHA384"), client)
    assert (client_end.cipher() or [""])[0] == "DHE-RSA-AES256-GCM-SHA384"


def test_secrets_are_logged_to_a_file_that_only_we_can_read(
    tls: Tls, authority: Authority, tmp_path: Path
) -> None:
    keylog = tmp_path / "keys"
    shake_hands(evolve(tls, keylog_file=keylog), client_context(authority))
    assert "CLIENT_HANDSHAKE_TRAFFIC_SECRET" in keylog.read_text()
    assert keylog.stat().st_mode & 0o777 == 0o600
    keylog.chmod(0o644)
    with pytest.raises(TlsError, match="Others may read"):
        server_context(evolve(tls, keylog_file=keylog))
    (tmp_path / "link").symlink_to(keylog)
    with pytest.raises(TlsError, match="Unable to open keylog file"):
        server_context(evolve(tls, keylog_file=tmp_path / "link"))


def test_wrong_files_and_names_are_told_in_mosquittos_words(
    tls: Tls, authority: Authority, tmp_path: Path
) -> None:
    nowhere, nonsense = tmp_path / "nowhere", tmp_path / "nonsense"
    nonsense.write_text("nonsense")
    other_key = authority.folder / "client.key"
    secret = tmp_path / "secret.key"
    subprocess.run(
        ["openssl", "pkey", "-in", tls.keyfile, "-aes256", "-passout", "pass:x", "-out", secret], check=True
    )
    for wrong, said in [
        (
            evolve(tls, certfile=nowhere),
            f'Unable to load server certificate "{nowhere}". Check certfile. No such',
        ),
        (evolve(tls, certfile=nonsense), f'Unable to load server certificate "{nonsense}". Check certfile.'),
        (evolve(tls, keyfile=nowhere), f'Unable to load server key file "{nowhere}". Check keyfile. No such'),
        (evolve(tls, keyfile=nonsense), f'Unable to load server key file "{nonsense}". Check keyfile.'),
        (
            evolve(tls, keyfile=secret),
            f'Unable to load server key file "{secret}". Check keyfile. It has a passph',
        ),
        (evolve(tls, keyfile=other_key), "Server certificate/key are inconsistent."),
        (evolve(tls, cafile=nowhere), f'Unable to load CA certificates. Check cafile "{nowhere}". No such'),
        (evolve(tls, cafile=nonsense), f'Unable to load CA certificates. Check cafile "{nonsense}".'),
        (evolve(tls, capath=nowhere), f'Unable to load CA certificates. Check capath "{nowhere}". No such'),
        (
            evolve(tls, crlfile=nowhere),
            f'Unable to load certificate revocation file "{nowhere}". Check crlfile.',
        ),
        (evolve(tls, crlfile=authority.ca), "Check crlfile. There is no X509 CRL in it."),
        (evolve(tls, tls_version="tlsv1.1"), 'Unsupported tls_version "tlsv1.1".'),
        (evolve(tls, ciphers="NONE-SUCH"), 'Unable to set TLS ciphers. Check cipher list "NONE-SUCH".'),
        (
            evolve(tls, ciphers_tls13="A:B"),
            'Unable to set TLS 1.3 ciphersuites. Check cipher_tls13 list "A:B".',
        ),
    ]:
        with pytest.raises(TlsError) as caught:
            server_context(wrong)
        assert str(caught.value).startswith("Error: ")
        assert said in str(caught.value)

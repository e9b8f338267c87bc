"""A listener's TLS: the `ssl.SSLContext` that Mosquitto would make of its options, and who the peer is."""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path
from typing import Final, Literal, Protocol

from broker.config.files import check_file, read_file
from broker.config.model import Tls
from broker.core.limits import SLOW_KEY_BYTES
from protocol.certificate import common_name, public_key_bytes, subject

CIPHERS_DEFAULT: Final = "DEFAULT:!aNULL:!eNULL:!LOW:!EXPORT:!SSLv2:@STRENGTH"

_FFDHE2048: Final = """\
-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""
"""The group ffdhe2048 of RFC 7919."""

_NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME, for which Python has no name."""

_TLS13_SUITES: Final = frozenset(
    {
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_CCM_SHA256",
        "TLS_AES_128_CCM_8_SHA256",
    }
)

_OLDEST: Final = {
    "": ssl.TLSVersion.TLSv1_2,
    "tlsv1.2": ssl.TLSVersion.TLSv1_2,
    "tlsv1.3": ssl.TLSVersion.TLSv1_3,
}


class TlsError(Exception):
    """Why a listener cannot have TLS: `Error: ` and Mosquitto's words, then what would be right.

    `option` is the one that it is about, as `Mistake.option`.
    """

    def __init__(self, text: str, key: str = "", value: object = "") -> None:
        super().__init__(text)
        self.option = (key, str(value))


class PeerSocket(Protocol):
    """What `ssl.SSLSocket`, `ssl.SSLObject` and `trio.SSLStream` have in common here."""

    def getpeercert(self, binary_form: Literal[True]) -> bytes | None:
        """As that of `ssl.SSLSocket`: DER, or None."""


def server_context(tls: Tls) -> ssl.SSLContext:
    """The context for one listener.

    Raises:
        TlsError: a file cannot be read or does not hold what it should, or an option is unknown to OpenSSL.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if tls.tls_version not in _OLDEST:
        raise TlsError(
            f'Error: Unsupported tls_version "{tls.tls_version}". Write tlsv1.2 or tlsv1.3.',
            "tls_version",
            tls.tls_version,
        )
    context.minimum_version = _OLDEST[tls.tls_version]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    # For coming back without a signature.  One is enough for a client with one connection, and each costs 40 µs.
    context.num_tickets = 1
    _set_ciphers(context, tls)
    _load_authorities(context, tls)
    context.verify_mode = ssl.CERT_REQUIRED if tls.require_certificate else ssl.CERT_NONE
    _load_certificate(context, tls)
    _load_revoked(context, tls)
    if tls.disable_client_cert_date_checks:
        context.verify_flags = ssl.VerifyFlags(context.verify_flags | _NO_CHECK_TIME)
    if tls.keylog_file is not None:
        _log_keys(context, tls.keylog_file)
    return context


def peer_identity(tls: Tls, peer: PeerSocket) -> bytes | None:
    """The user name that the peer's certificate stands for; None where the listener does not ask or there is none."""
    if not (tls.use_identity_as_username or tls.use_subject_as_username):
        return None
    der = peer.getpeercert(binary_form=True)
    if der is None:
        return None
    return common_name(der) if tls.use_identity_as_username else subject(der)


def has_slow_key(tls: Tls) -> bool:
    """Whether a signature of the server's takes so long that nobody else should wait for it."""
    try:
        pem = read_file(tls.certfile).decode()
        start = pem.index(ssl.PEM_HEADER)
        der = ssl.PEM_cert_to_DER_cert(pem[start : pem.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)])
    except (OSError, ValueError):
        return False
    return public_key_bytes(der) > SLOW_KEY_BYTES


def _set_ciphers(context: ssl.SSLContext, tls: Tls) -> None:
    try:
        context.set_ciphers(tls.ciphers or CIPHERS_DEFAULT)
    except ssl.SSLError:
        raise TlsError(
            f'Error: Unable to set TLS ciphers. Check cipher list "{tls.ciphers}".'
            " `openssl ciphers` lists the names.",
            "ciphers",
            tls.ciphers,
        ) from None
    if tls.ciphers and any(suite["kea"] == "kx-dhe" for suite in context.get_ciphers()):
        _load_parameters(context)
    unknown = [name for name in tls.ciphers_tls13.split(":") if name and name not in _TLS13_SUITES]
    if unknown:
        raise TlsError(
            f'Error: Unable to set TLS 1.3 ciphersuites. Check cipher_tls13 list "{tls.ciphers_tls13}".'
            f" Known are {', '.join(sorted(_TLS13_SUITES))}, with colons between them.",
            "ciphers_tls13",
            tls.ciphers_tls13,
        )


def _load_parameters(context: ssl.SSLContext) -> None:
    """For a DHE key exchange, as OpenSSL would choose them for Mosquitto; without them nobody gets in by it."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # Python takes them from a file only
        file.write(_FFDHE2048)
        file.flush()
        context.load_dh_params(file.name)


def _load_authorities(context: ssl.SSLContext, tls: Tls) -> None:
    for option, path in (("cafile", tls.cafile), ("capath", tls.capath)):
        if path is None:
            continue
        try:
            if option == "cafile":
                check_file(path)
                context.load_verify_locations(cafile=path)
            else:
                os.listdir(path)
                context.load_verify_locations(capath=path)
        except OSError as error:
            raise TlsError(
                f'Error: Unable to load CA certificates. Check {option} "{path}". {_why(error)}', option, path
            ) from None


def _load_certificate(context: ssl.SSLContext, tls: Tls) -> None:
    certificate = f'Error: Unable to load server certificate "{tls.certfile}". Check certfile.'
    key = f'Error: Unable to load server key file "{tls.keyfile}". Check keyfile.'
    try:
        check_file(tls.certfile)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=tls.certfile)
    except OSError as error:
        raise TlsError(f"{certificate} {_why(error)}", "certfile", tls.certfile) from None
    try:
        check_file(tls.keyfile)
        context.load_cert_chain(tls.certfile, tls.keyfile, password=lambda: _passphrase(tls))
    except OSError as error:
        if "KEY_VALUES_MISMATCH" in str(error):
            raise TlsError(
                "Error: Server certificate/key are inconsistent."
                f' "{tls.keyfile}" is not the key of "{tls.certfile}".',
                "keyfile",
                tls.keyfile,
            ) from None
        raise TlsError(f"{key} {_why(error)}", "keyfile", tls.keyfile) from None
    except _Encrypted:
        cure = (
            "It has a passphrase; give it as keyfile_password in [listener.tls] of a .toml file, or take it off"
            " with `openssl pkey -in KEY -out NEW`."
        )
        raise TlsError(f"{key} {cure}", "keyfile", tls.keyfile) from None


class _Encrypted(Exception):
    """OpenSSL asked for a passphrase, which a daemon cannot answer."""


def _passphrase(tls: Tls) -> str:
    if not tls.keyfile_password:
        raise _Encrypted
    return tls.keyfile_password


def _load_revoked(context: ssl.SSLContext, tls: Tls) -> None:
    if tls.crlfile is None:
        return
    said = f'Error: Unable to load certificate revocation file "{tls.crlfile}". Check crlfile.'
    before = context.cert_store_stats()["crl"]
    try:
        check_file(tls.crlfile)
        context.load_verify_locations(cafile=tls.crlfile)
    except OSError as error:
        raise TlsError(f"{said} {_why(error)}", "crlfile", tls.crlfile) from None
    if context.cert_store_stats()["crl"] == before:
        raise TlsError(f"{said} There is no X509 CRL in it.", "crlfile", tls.crlfile)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF


def _log_keys(context: ssl.SSLContext, path: Path) -> None:
    """Secrets go to this file; as in Mosquitto nobody else may read it, and it may not be a link."""
    try:
        descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o600
        )
        public = os.fstat(descriptor).st_mode & 0o077
        os.close(descriptor)
    except OSError as error:
        raise TlsError(f"Error: Unable to open keylog file: {error.strerror}.") from None
    if public:
        raise TlsError(f"Error: Others may read the keylog file. Cure: `chmod 0600 {path}`.")
    context.keylog_filename = str(path)


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"OpenSSL says {error.reason or 'that it is no PEM file'}."
    return f"{error.strerror}."

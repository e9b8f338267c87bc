"""The name in a client's certificate, read from its DER bytes: the common name, or the subject as OpenSSL prints it.

Only certificates that OpenSSL has verified come here, so their shape is sound; where it is not what is expected the
answer is None, never an exception.

Source: RFC 5280 §4.1, RFC 2253, and OpenSSL's `-nameopt RFC2253`, which Mosquitto uses for use_subject_as_username.
"""

from __future__ import annotations

from typing import NamedTuple

_COMMON_NAME = "2.5.4.3"
_SHORT_NAMES = {
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.3": "mail",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
    "1.2.840.113549.1.9.2": "unstructuredName",
    "1.3.6.1.4.1.311.60.2.1.1": "jurisdictionL",
    "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionST",
    "1.3.6.1.4.1.311.60.2.1.3": "jurisdictionC",
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "street",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.13": "description",
    "2.5.4.14": "searchGuide",
    "2.5.4.15": "businessCategory",
    "2.5.4.16": "postalAddress",
    "2.5.4.17": "postalCode",
    "2.5.4.18": "postOfficeBox",
    "2.5.4.19": "physicalDeliveryOfficeName",
    "2.5.4.20": "telephoneNumber",
    "2.5.4.21": "telexNumber",
    "2.5.4.22": "teletexTerminalIdentifier",
    "2.5.4.23": "facsimileTelephoneNumber",
    "2.5.4.24": "x121Address",
    "2.5.4.25": "internationaliSDNNumber",
    "2.5.4.26": "registeredAddress",
    "2.5.4.27": "destinationIndicator",
    "2.5.4.28": "preferredDeliveryMethod",
    "2.5.4.29": "presentationAddress",
    "2.5.4.30": "supportedApplicationContext",
    "2.5.4.41": "name",
    "2.5.4.42": "GN",
    "2.5.4.43": "initials",
    "2.5.4.44": "generationQualifier",
    "2.5.4.45": "x500UniqueIdentifier",
    "2.5.4.46": "dnQualifier",
    "2.5.4.65": "pseudonym",
    "2.5.4.72": "role",
    "2.5.4.97": "organizationIdentifier",
}
"""OpenSSL's; a type that is not listed is printed as RFC 2253 §2.4 says: its number and its value in hexadecimal."""

_SEQUENCE = 0x30
_SET = 0x31
_VERSION = 0xA0
_ENCODINGS = {
    12: "utf-8",
    18: "latin-1",
    19: "latin-1",
    20: "latin-1",
    22: "latin-1",
    28: "utf-32-be",
    30: "utf-16-be",
}
"""By ASN.1 tag: UTF8String, NumericString, PrintableString, T61String, IA5String, UniversalString, BMPString."""

_SPECIAL = b',+"\\<>;'


class Attribute(NamedTuple):
    """One `type=value` of a name."""

    kind: str
    """Its object identifier, with dots."""
    tag: int
    value: bytes
    joined: bool
    """It belongs to the same relative name as the one before it."""


def common_name(der: bytes) -> bytes | None:
    """The first common name, as it stands in the certificate; None if there is none or it is not text."""
    for attribute in _subject(der):
        if attribute.kind == _COMMON_NAME:
            return attribute.value if _is_text(attribute.value) else None
    return None


def subject(der: bytes) -> bytes | None:
    """The whole subject as `CN=device 7,O=Example,C=DE`, last part first; None if there is none."""
    printed = b""
    joined = False
    for attribute in reversed(_subject(der)):
        separator = b"" if not printed else b"+" if joined else b","
        printed += separator + _printed(attribute)
        joined = attribute.joined
    return printed if printed and _is_text(printed) else None


def public_key_bytes(der: bytes) -> int:
    """How long the public key is with its algorithm (RFC 5280 §4.1.2.7); 0 where the bytes are no certificate."""
    try:
        fields = _items(_items(_items(der)[0][1])[0][1])
        first = 1 if fields[0][0] == _VERSION else 0
        return len(fields[first + 5][1])
    except (IndexError, ValueError):
        return 0


def _is_text(name: bytes) -> bool:
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return bool(text) and not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text)


def _printed(attribute: Attribute) -> bytes:
    encoding = _ENCODINGS.get(attribute.tag)
    name = _SHORT_NAMES.get(attribute.kind)
    if encoding is None or name is None:
        whole = bytes((attribute.tag,)) + _length(len(attribute.value)) + attribute.value
        return f"{name or attribute.kind}=#{whole.hex().upper()}".encode()
    text = attribute.value.decode(encoding, "replace").encode()
    return name.encode() + b"=" + b"".join(_escaped(text, position) for position in range(len(text)))


def _escaped(text: bytes, position: int) -> bytes:
    byte = text[position]
    if byte < 32 or byte >= 127:
        return b"\\%02X" % byte
    at_start, at_end = position == 0, position == len(text) - 1
    if byte in _SPECIAL or (byte == 0x20 and (at_start or at_end)) or (byte == 0x23 and at_start):
        return b"\\" + text[position : position + 1]
    return text[position : position + 1]


def _length(size: int) -> bytes:
    if size < 128:
        return bytes((size,))
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(digits),)) + digits


def _subject(der: bytes) -> list[Attribute]:
    """The subject's attributes in the certificate's order; empty where the bytes are no certificate."""
    try:
        certificate = _items(_items(der)[0][1])
        fields = _items(certificate[0][1])
        first = 1 if fields[0][0] == _VERSION else 0
        # serial number, signature algorithm, issuer, validity, subject
        return _attributes(fields[first + 4][1])
    except (IndexError, ValueError):
        return []


def _attributes(name: bytes) -> list[Attribute]:
    found = []
    for set_tag, members in _items(name):
        for position, (tag, member) in enumerate(_items(members)):
            kind, value = _items(member)[:2]
            if (set_tag, tag) != (_SET, _SEQUENCE):
                raise ValueError("not a name")
            found.append(Attribute(_dotted(kind[1]), value[0], value[1], position > 0))
    return found


def _items(data: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of each value in `data`, one after the other; IndexError or ValueError where they are cut."""
    found = []
    position = 0
    while position < len(data):
        tag, size = data[position], data[position + 1]
        position += 2
        if size & 0x80:
            digits = size & 0x7F
            size = int.from_bytes(data[position : position + digits], "big")
            position += digits
        if position + size > len(data):
            raise ValueError("cut short")
        found.append((tag, data[position : position + size]))
        position += size
    return found


def _dotted(encoded: bytes) -> str:
    numbers = [0]
    for byte in encoded:
        numbers[-1] = numbers[-1] << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(0)
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:-1])))

"""Tests of others that fail against Rowcast, each with the reason."""

from __future__ import annotations

from typing import Final

_TOLD: Final = "the test wants the connection closed without a word; 5.0's client is told why (4.13.1)"
_WILL: Final = (
    "Mosquitto 2.0 waits for a will's delay after the session's end, or sends none at a takeover (3.1.3.2.2)"
)
_CLIENT: Final = "a test of paho's own client, which takes paho's test broker apart"

EXPECTED: Final[dict[str, str]] = {
    "01-connect-connack-2163.py": _TOLD,
    "01-connect-duplicate.py": _TOLD,
    "01-connect-invalid-id-utf8.py": _TOLD,
    "01-connect-uname-invalid-utf8.py": _TOLD,
    "01-connect-uname-no-flag.py": _TOLD,
    "01-connect-uname-pwd-no-flag.py": _TOLD,
    "02-subpub-qos1-bad-pubcomp.py": _TOLD,
    "02-subpub-qos1-bad-pubrec.py": _TOLD,
    "02-subpub-qos2-bad-puback-1.py": _TOLD,
    "02-subpub-qos2-bad-puback-2.py": _TOLD,
    "02-subpub-qos2-bad-pubcomp.py": _TOLD,
    "07-will-invalid-utf8.py": _TOLD,
    "07-will-no-flag.py": _TOLD,
    "07-will-null-topic.py": _TOLD,
    "07-will-delay.py": _WILL,
    "07-will-delay-reconnect.py": _WILL,
    "07-will-delay-recover.py": _WILL,
    "07-will-takeover.py": _WILL,
    "01-connect-zero-length-id.py": "a client id that is not let in is told as 0x85 (3.2.2.2), not as 0x80",
    "02-subpub-qos1-oversize-payload.py": "PUBACK may not say 0x95 (Table 3-4); it says 0x97, quota exceeded",
    "09-pwfile-parse-invalid.py": "a password file with a line that is none is refused at the start, not passed over",
    "12-prop-maximum-packet-size-publish-qos1.py": "the test's PUBLISH has 21 bytes, and the client takes 20",
    "12-prop-maximum-packet-size-publish-qos2.py": "the test's PUBLISH has 21 bytes, and the client takes 20",
    "13-malformed-subscribe-v5.py": "QoS 3 and retain handling 3 are told as 0x82, protocol error (3.8.3.1)",
    "12-prop-assigned-client-identifier.py": "CONNACK also says the maximum packet size, which 2.1 has by default",
    "12-prop-server-keepalive.py": "CONNACK's properties have the order of Mosquitto 2.1",
    "12-prop-subpub-payload-format.py": "the test's payload format indicator is 0xed; it has 0 or 1 (3.3.2.3.2)",
    "test_subscribe_failure": "wants a broker that refuses the filter test/nosubscribe",
    "test_qos0_client_reconnects_after_broker_reboots": _CLIENT,
    "test_qos1_client_reconnects_after_broker_reboots": _CLIENT,
    "test_qos1_drop_messages_client_reconnects_after_broker_reboots": _CLIENT,
}

"""The normative statements of MQTT 5.0, its appendix B, and whom each binds.

A statement about a server, or about both sides, has a test that bears its tag; one about clients alone has none, unless
a server has to notice that it is broken.  `tests/protocol/mqtt/v5/test_statements.py` holds us to that.
"""

from __future__ import annotations

from typing import Final

SECTIONS: Final = {
    "1.5.4": 3,
    "1.5.5": 1,
    "1.5.7": 1,
    "2.1.3": 1,
    "2.2.1": 6,
    "2.2.2": 2,
    "3.1.0": 2,
    "3.1.2": 30,
    "3.1.3": 12,
    "3.1.4": 6,
    "3.2.0": 2,
    "3.2.2": 22,
    "3.3.1": 13,
    "3.3.2": 20,
    "3.3.4": 10,
    "3.4.2": 3,
    "3.5.2": 3,
    "3.6.1": 1,
    "3.6.2": 3,
    "3.7.2": 3,
    "3.8.1": 1,
    "3.8.3": 5,
    "3.8.4": 8,
    "3.9.2": 2,
    "3.9.3": 2,
    "3.10.1": 1,
    "3.10.3": 2,
    "3.10.4": 6,
    "3.11.2": 2,
    "3.11.3": 2,
    "3.12.4": 1,
    "3.14.0": 1,
    "3.14.1": 1,
    "3.14.2": 4,
    "3.14.4": 3,
    "3.15.1": 1,
    "3.15.2": 3,
    "4.1.0": 2,
    "4.2.0": 1,
    "4.3.1": 1,
    "4.3.2": 5,
    "4.3.3": 13,
    "4.4.0": 2,
    "4.5.0": 2,
    "4.6.0": 6,
    "4.7.0": 1,
    "4.7.1": 2,
    "4.7.2": 1,
    "4.7.3": 4,
    "4.8.2": 6,
    "4.9.0": 3,
    "4.12.0": 7,
    "4.12.1": 2,
    "4.13.1": 1,
    "4.13.2": 1,
    "6.0.0": 4,
}
"""Section to the number of its statements, `MQTT-SECTION-1` and on."""

_NUMBERED_FROM_2: Final = ("2.2.1",)
ALL: Final = [
    f"MQTT-{section}-{number}"
    for section, count in SECTIONS.items()
    for number in range(2 if section in _NUMBERED_FROM_2 else 1, count + 1)
]

OF_CLIENTS: Final = {
    "MQTT-3.1.2-20": "a client pings",
    "MQTT-3.1.2-21": "a client takes the server's keep alive",
    "MQTT-3.1.2-30": "a client waits for CONNACK while it authenticates",
    "MQTT-3.2.2-4": "a client without state does not go on with a present session",
    "MQTT-3.2.2-5": "a client discards state that the server has not",
    "MQTT-3.2.2-18": "a client sends no alias where none is allowed",
    "MQTT-3.2.2-21": "a client uses the server's keep alive",
    "MQTT-3.3.2-10": "a client takes every alias that it allowed",
    "MQTT-3.3.4-8": "a client whose quota is used up sends the rest all the same",
    "MQTT-4.5.0-2": "a client acknowledges whether it wants a message or not",
    "MQTT-4.6.0-1": "a client resends in order",
    "MQTT-4.6.0-2": "a client sends PUBACK in order",
    "MQTT-4.6.0-3": "a client sends PUBREC in order",
    "MQTT-4.6.0-4": "a client sends PUBREL in order",
    "MQTT-4.12.0-4": "a client answers an AUTH with AUTH",
    "MQTT-4.12.0-7": "a client without a method sends no AUTH",
    "MQTT-4.12.1-1": "a client authenticates again by the same method",
    "MQTT-6.0.0-4": "a client offers `mqtt` as WebSocket subprotocol",
}
"""Bind clients alone: nothing for a broker to do, or to notice."""

NOT_HERE: Final = {
    "MQTT-4.12.0-2": "AUTH from the server: no method of authentication is supported, so none is sent",
    "MQTT-4.12.0-3": "AUTH from the server carries the method of CONNECT: none is sent",
    "MQTT-4.12.0-5": "a CONNACK after an exchange carries the method: there is none",
    "MQTT-4.12.1-2": "authenticating again fails: a method is refused with CONNECT already",
    "MQTT-3.3.4-5": "copies for each subscription have its identifier: there is one copy with all of them",
}
"""Conditional on what this broker does not do."""

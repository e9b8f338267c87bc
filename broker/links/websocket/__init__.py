"""WebSocket connections: the handshake, frames, and the dialects or MQTT inside them.

Begin with `server`; `agreeing` decides what a handshake leads to, `link` reads frames, `dialect` carries out what a
machine of `protocol.dialects` decides, `rowcast` and `following` are readers that follow from a position, `mqtt` is
MQTT in frames.
"""

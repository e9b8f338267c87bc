"""One MQTT connection: bytes in, packets to the engine, bytes owed.  No socket, no clock.

Begin with `link`, which both shells drive (`broker.links.pump`, and `stream` for connections within the process).
`runs` and `runs5` walk over packets and hand on QoS 0, `packets` does what every other packet asks, `v5` what only 5.0
has, `admission` ends a CONNECT as the door says, `answers` keeps acknowledgements in their order.
Imports as all of `links`, and knows no WebSocket.
"""

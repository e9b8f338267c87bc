"""WebSocket connections: the handshake, frames, and the dialects or MQTT inside them.  Begin with `server`."""

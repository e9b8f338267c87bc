"""One MQTT connection: bytes in, packets to the engine, bytes owed.  No socket, no clock.  Begin with `link`."""

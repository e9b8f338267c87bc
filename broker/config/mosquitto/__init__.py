"""mosquitto.conf to `Config`, as Mosquitto 2.1 understands it.  Begin with `configuration`; `options` is the table."""

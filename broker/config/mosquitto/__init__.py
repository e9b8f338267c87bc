"""mosquitto.conf to `Config`, as Mosquitto 2.1 understands it.

Begin with `configuration`; `options` is the table of all words, of which the reader and docs/mosquitto-conf.md are
made.
"""

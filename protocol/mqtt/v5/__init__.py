"""MQTT 5.0 where it differs from 3.1.1: properties, reason codes, and the bytes of its fifteen packets."""

"""MQTT 5.0 where it differs from 3.1.1: properties, reason codes, and the bytes of its fifteen packets.

Begin with `wire`, the declared layout; `codec` and `runs` are the quick way, `property_table` says which packet may
have which property.
"""

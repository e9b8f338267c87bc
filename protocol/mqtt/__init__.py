"""MQTT 3.1 and 3.1.1, and what 5.0 (in `v5`) shares with them: packets, topics, and the state of one connection.

Begin with `wire`, which declares what every packet looks like; `codec` is the quick way, `outbound` has QoS as a table.
"""

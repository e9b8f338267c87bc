"""Sources beside Postgres tables: a query that is asked again and again, TCP, UDP, and what MQTT clients publish.

Begin with `rows`, through which every message of every source goes; `envelope` finds the rows in it, `sequence` which
came twice or are missing.  `polled`, `sockets` and `published` are the sources.
"""

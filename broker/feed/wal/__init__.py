"""The feed of kind `wal`: the write-ahead log by logical replication, every committed row once and in commit order.

Begin with `feed`; `stream` is one connection, `delivery` what is done with what it brings.  Imports
what the feeds share, `driver`, `routing` and `fast`, and no other kind.
"""

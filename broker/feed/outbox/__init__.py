"""The feed of kind `outbox`: a table that triggers fill, for servers without logical replication.

Begin with `feed`; `delivery` is what is done with a row.  Imports what the feeds share, `driver` and `routing`, and no
other kind.
"""

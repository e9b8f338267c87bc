"""Nodes of one cluster, on a NATS JetStream log: what they share, and which of them owns a client id, a feed, a group.

Begin with `node`, which decides what goes where; `reader` and `publisher` are the log's two ends, `owners` says whose a
client is, `lease` who reads a feed, `janitor` what becomes of the dead.  The words are `protocol.nats`.  Nothing here
is imported without [cluster], and it imports `feed`, `links`, `gateway`, `core` and `config`; the engine knows it by
callbacks alone (`Engine.log`, `keep`, `on_detached`).
"""

"""MQTT into Postgres: messages become rows, and are acknowledged when those are committed.

`hub` knows every sink and hands messages on; `sink` is one of them: a receiver with what waits for its table;
`values` makes columns of messages, `plan` the statement from the database's catalogue, `message_ids` the ids by which
a repeated message is known.  `writer` is the only module that waits: one connection, one batch after the other, in
order.  Knows the engine, and of feeds only their driver; nothing but `broker.app` and reports know it.

Invariant: a promise is kept after the COMMIT of its message's row, or after the row was refused for good.
"""

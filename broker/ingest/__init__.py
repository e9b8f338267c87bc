"""MQTT into Postgres: messages become rows, and are acknowledged when those are committed.

Begin with `hub`, which knows every sink and hands messages on; `sink` is one of them: a receiver with what waits for
its table.  `values` makes columns of messages, `plan` the statement from the database's catalogue, `message_ids` the
ids by which a repeated message is known.  `batches` makes the next batch while `writer` waits for the one before: one
connection, one batch after the other, in order.  `setup` is what `rowcast feed install` and `check` do about sinks.

Imports `core` and `config`, and of feeds their driver and how steps and findings are told; links never know it.

Invariant: a promise is kept after the COMMIT of its message's row, or after the row was refused for good.
"""

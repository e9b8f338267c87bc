"""A row becomes topics and bodies: complete, pure, and not the fastest way.

`fast` gives the same answers for rows in a form that was seen before.  Imports `broker.config`, `broker.core` and
`protocol`; no Trio, no database.  Begin with `routes`.
"""

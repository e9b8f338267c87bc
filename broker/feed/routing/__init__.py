"""A row becomes topics and bodies: complete, pure, and not the fastest way.

`fast` gives the same answers for rows as they usually look.  Imports `broker.config`, `broker.core` and `protocol`; no
Trio, no database.  Begin with `routes`.
"""

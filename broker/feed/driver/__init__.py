"""Postgres under Trio: connections, how they are made and how they fail, and what the catalog says of types.

Knows no feed; imports the driver's own modules and psycopg.  Begin with `connection`.
"""

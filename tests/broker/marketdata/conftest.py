"""Examples run against a real Postgres; see support.postgres."""

from support.postgres import cluster, database

__all__ = ["cluster", "database"]

"""The feed's tests run against a real PostgreSQL."""

from support.postgres import cluster, database

__all__ = ["cluster", "database"]

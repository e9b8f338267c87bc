from support.postgres import cluster, database

__all__ = ["cluster", "database"]

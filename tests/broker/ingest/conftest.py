from support.postgres import cluster, database, pair

__all__ = ["cluster", "database", "pair"]

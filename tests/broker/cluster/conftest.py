from support.nodes import cluster_name, nats_server

__all__ = ["cluster_name", "nats_server"]

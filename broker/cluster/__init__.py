"""Nodes of one cluster, on a NATS JetStream log.  Nothing here is imported without [cluster]."""

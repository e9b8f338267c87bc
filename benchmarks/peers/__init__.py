"""The brokers that are measured: how each is installed, started, and asked for its version."""

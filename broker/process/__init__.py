"""What a process of its own does around the broker: signals, log, background, privileges.  Begin with `run`."""

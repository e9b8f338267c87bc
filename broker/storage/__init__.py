"""What survives a restart: a file of SQLite, written while the broker runs.  Begin with `keeper`."""

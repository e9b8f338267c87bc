"""The command line: what was typed, to what is run.  May import everything.  Begin with `main`."""

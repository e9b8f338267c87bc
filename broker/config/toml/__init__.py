"""A TOML file to `Config`, strictly, with every mistake at once.  Begin with `configuration`."""

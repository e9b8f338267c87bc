"""The HTTP port for administration and publishing.  Begin with `site`."""

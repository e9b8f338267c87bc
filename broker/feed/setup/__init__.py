"""What a feed needs in its database: the SQL that installs it, and the doctor that says what is wrong.

Runs while no feed runs.  Imports what the feeds share, and of `wal` how its slots are called.  Begin with `install` and
`doctor`.
"""

"""What a feed needs in its database: the SQL that installs it, and the doctor that says what is wrong.

Runs while no feed runs.  Begin with `install` and `doctor`.
"""

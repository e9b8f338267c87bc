"""A persistence file that the disk changed: what of it is still what was written.  Begin with `salvage`.

`wal` puts right a flipped bit of the write-ahead log, whose checksums say which it was; `pages` reads the file as
pages, `cells` the rows of one page, `trees` finds the pages of each table, and `replace` puts a fresh file in
place of the damaged one, which is kept.  Imports `storage` alone.  Sources: https://sqlite.org/fileformat2.html and https://sqlite.org/walformat.html
"""

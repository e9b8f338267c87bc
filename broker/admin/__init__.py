"""The HTTP port for administration and publishing: who may ask, what is answered, and the operator's page.

Begin with `site`, which says what each path does; `http` reads requests, `access` decides who may ask.  Imports
`reports` for what it shows, and `gateway`, `links`, `core` and `config`; only `broker.operation` knows it.
"""

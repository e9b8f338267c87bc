"""Market data, wired: the calculators of `broker.market` to their rows, their channels, their history.

Begin with `market`.  `parts` is what a channel is made of, `intake` where rows come from that no table has,
`history` keeps candles, `udf` and `site` answer whoever would rather look.  Imports `market`, `feed`, `storage`,
`links`, `gateway`, `core` and `config`.
"""

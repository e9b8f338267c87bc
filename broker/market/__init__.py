"""What is calculated from rows: order books, candles, tickers, trades, mark prices.  Pure; mostly compiled.

Imports `protocol` only.  Begin with `stream` (what a channel with a state is) and `calculator`; `broker.marketdata`
gives them their rows and readers.
"""

"""Rowcast measured against every broker that can be installed beside it, in the same run on the same machine.

`python -m benchmarks --help` shows what there is.  Nothing here is imported by the product.
"""

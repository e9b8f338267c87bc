"""The exchange of `rowcast demo`, and the account of what arrives.  Only the command line knows it."""

"""What the broker says about itself: `$SYS`, metrics, health, lists of clients.  It reads all, and changes nothing.

Begin with `facts`, of which all others are made.  Pure, but for `pulse` (how late the loop is) and `gently` (long
lists, a little at a time).  Who shows it: `broker.admin`, and `broker.operation` for `$SYS`.
"""

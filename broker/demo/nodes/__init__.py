"""`rowcast demo --nodes 3`: nodes of a cluster that are killed while clients count."""

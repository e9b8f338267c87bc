"""What the broker says about itself in topics and text.  Pure: reads counters and state, changes nothing."""

"""What can be known of a run beforehand and afterwards: checks, cost, profile, measurements."""

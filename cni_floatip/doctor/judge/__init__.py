"""Facts in, findings out. Nothing here looks at anything: each function is tested by a table."""

"""Stand-ins for the outside world that keep a state and print it."""

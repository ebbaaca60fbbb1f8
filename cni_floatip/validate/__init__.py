"""What ``floatipctl validate`` says of networks and node configurations, from files alone."""

"""What the agent tells operators: log, metrics, health, status. The only part that the others import."""

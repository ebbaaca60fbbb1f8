"""What the agent tells: log, metrics, health, status. The one part that the others know."""

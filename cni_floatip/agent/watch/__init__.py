"""What happens inside pods: watched addresses, and routes and rules that a pod loses."""

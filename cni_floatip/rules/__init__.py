"""Pure decisions: destinations, the pod's routes, what the keeper does about a route."""

"""Pure decisions: destinations to claim, routes that a pod gets, what the keeper does about a route."""

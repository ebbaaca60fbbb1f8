"""The keeper: looks at the VPC, repairs the routes of this node's claims, ends those of dead pods."""

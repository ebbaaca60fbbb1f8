"""The keeper: looks at the VPC, repairs the routes of this node's claims, ends the claims of dead pods."""

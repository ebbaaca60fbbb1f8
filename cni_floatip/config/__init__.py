"""The two configurations, of the network and of the node: read, checked, explained."""

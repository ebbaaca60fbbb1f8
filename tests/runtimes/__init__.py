"""Real CNI runtimes that drive the plugin on a lab node, kept away from the machine's own CNI directories."""

"""The node agent: the same operations as direct mode, warm, and somebody who looks after what was claimed."""

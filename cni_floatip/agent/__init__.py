"""The node agent: runs the operations of direct mode with warm clients, and keeps claimed routes right."""

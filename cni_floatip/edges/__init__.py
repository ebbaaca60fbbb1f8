"""Adapters for EC2, metadata, kernel, disk and sockets. An edge knows ``model`` and no other edge."""

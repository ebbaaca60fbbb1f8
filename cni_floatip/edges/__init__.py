"""The doors to what is outside. An edge knows the values of ``model``, and no other edge."""

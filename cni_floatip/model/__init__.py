"""Values: addresses, routes, claims, errors. They import nothing of the product."""

"""Value types: addresses, routes, claims, errors. They import nothing else of the product."""

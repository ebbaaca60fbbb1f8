"""EC2 and STS: the product's calls, credentials, and the service descriptions of those calls."""

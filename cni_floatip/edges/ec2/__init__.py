"""EC2 and STS: the calls of the product, credentials, and the part of the API that it needs."""

"""Wire formats: CNI's request, result and answer, and the frames between client and agent."""

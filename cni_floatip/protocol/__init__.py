"""What goes over a pipe: CNI's request, result and answer, and the frames between client and agent."""

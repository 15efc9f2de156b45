"""What is trained: counts and networks, and one face for all of them."""

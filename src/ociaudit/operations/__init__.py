"""Use cases. Every collaborator is an argument."""

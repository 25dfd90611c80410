"""What the networks are, how they are trained, and how a run survives being killed."""

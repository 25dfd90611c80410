"""The networks, how they are trained, and what a training leaves behind."""

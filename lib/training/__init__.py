"""Training: recipe, networks, batches, optimisers, checkpoints and export."""

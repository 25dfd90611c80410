"""From a source of pictures to shuffled, augmented batches."""

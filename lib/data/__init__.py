"""From a source of pictures to arrays, labels and splits."""

"""From a source of pictures to prepared arrays with labels and splits."""

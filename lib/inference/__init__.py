"""From a model file and a picture to names and places."""

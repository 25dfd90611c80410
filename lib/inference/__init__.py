"""Inference: a model file and a picture → the name of the character."""

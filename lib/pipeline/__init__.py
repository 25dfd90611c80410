"""From make's variables to executed notebooks: `python -m lib.pipeline train cnn4`."""

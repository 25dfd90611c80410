"""The modules that the notebooks share."""

import os

# TensorFlow greets with a screenful on every import; errors still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

"""The helpers that the notebooks share: data, training, evaluation, serving."""

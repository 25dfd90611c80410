"""Train a network on a set of pictures that has no run of its own, as `02_train` does."""

from pathlib import Path

import keras

from lib.data.dataset import Dataset
from lib.training import batches, losses, networks, optimizers, resume, scenes
from lib.training.recipe import Recipe


def train(data: Dataset, folder: Path, recipe: Recipe) -> tuple[keras.Model, resume.Training]:
    """Train a network; it continues from the last finished epoch in `folder`.

    Without pictures for validation, the weights of the last epoch are kept. `Training.delete` removes the state of the
    training from the folder.

    Returns:
        The network with the weights of its best epoch, in the recipe's precision, and the training.
    """
    keras.utils.clear_session()
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(optimizers.precision(recipe.precision))
    picture_size = None if recipe.progressive_fraction else data.preparation.picture_size
    model = networks.build(recipe, len(data.characters), picture_size)
    source = scenes if recipe.class_map else batches
    in_training = source.for_training(data, recipe)
    validation = source.for_validation(data, recipe) if len(data.rows("validation")) else None
    model.compile(optimizer=optimizers.build(recipe, steps_per_epoch=len(in_training)), **losses.for_recipe(recipe))
    training = resume.Training(folder, model, data, recipe)
    for stage in training.stages():
        callbacks = training.callbacks(in_training, *([validation] if validation else []))
        model.fit(in_training, validation_data=validation, callbacks=callbacks, shuffle=False, verbose=0, **stage)
    model.set_weights(training.best_weights)
    return model, training

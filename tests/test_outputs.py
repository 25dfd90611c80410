import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from lib.inference import outputs
from lib.training import export, heads, networks


def test_both_outputs_of_an_exported_network_are_those_of_keras(tmp_path):
    keras.utils.set_random_seed(0)
    model = heads.with_heads(
        heads.body_of(networks.build("springfield", num_characters=2, picture_size=32, width=4)), 5
    )
    model.save(tmp_path / "model.keras")
    export.convert(tmp_path / "model.keras", tmp_path / "model.tflite", "float32")
    interpreter = Interpreter(model_path=str(tmp_path / "model.tflite"))
    interpreter.allocate_tensors()
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype="uint8")
    answer = outputs.ask(interpreter, picture)
    expected = model.predict_on_batch(picture[None])
    assert answer["class_map"].shape == (2, 2, 5)
    for name in ("probabilities", "class_map"):
        assert answer[name] == pytest.approx(np.asarray(expected[name])[0], abs=1e-4)


class Shapes:
    """An interpreter that has outputs of certain shapes and nothing else."""

    def __init__(self, *shapes):
        self.details = [{"shape": np.array(shape), "index": 7 + n} for n, shape in enumerate(shapes)]

    def get_output_details(self):
        return self.details


def test_an_older_network_has_probabilities_alone():
    assert outputs.output_indices(Shapes((1, 18))) == {"probabilities": 7}


def test_the_order_of_outputs_does_not_matter():
    assert outputs.output_indices(Shapes((1, 6, 6, 38), (1, 39))) == {"class_map": 7, "probabilities": 8}


@pytest.mark.parametrize("shapes", [[(1, 6, 6, 38)], [(1, 39), (1, 39)], [(1, 39), (3,)]])
def test_other_outputs_are_rejected(shapes):
    with pytest.raises(ValueError, match="must have outputs"):
        outputs.output_indices(Shapes(*shapes))

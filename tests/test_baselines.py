import numpy as np

from lib.data import dataset
from lib.evaluation import baselines
from tests.noise_pictures import brighter, noise, prepare, write


def test_the_nearest_neighbour_names_copies_and_the_most_frequent_character_does_not(tmp_path):
    for number in range(30):  # of bart and lisa, every picture is nearly the same as the others of its character
        write(tmp_path / "raw" / "bart" / f"{number:02}.png", brighter(noise(number)) // 4)
        write(tmp_path / "raw" / "lisa" / f"{number:02}.png", 255 - noise(100 + number) // 4)
    prepare(tmp_path / "raw", tmp_path / "processed")
    table = baselines.baselines(dataset.load(tmp_path / "processed"))
    assert table.baseline[0] == "most frequent character" and table.accuracy[0] == 0.5
    assert table.macro_f1[0] == np.mean([2 / 3, 0])  # precision 1/2 and recall 1 of one character, nothing of the other
    assert table.accuracy[1] == 1


def test_of_equally_frequent_labels_the_nearest_wins():
    assert baselines.vote(np.array([[2, 1, 1], [0, 1, 2], [1, 0, 0]])).tolist() == [1, 0, 0]

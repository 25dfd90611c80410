import numpy as np
import pytest

from lib.errors import UserError
from lib.inference import decision

# Two characters and nobody: sure, torn between two characters, nobody.
ANSWERS = np.array([[0.9, 0.05, 0.05], [0.48, 0.47, 0.05], [0.3, 0.1, 0.6]])


def test_the_largest_probability_declines_what_is_torn():
    rule = decision.Decision("largest_probability", 0.5)
    assert rule.is_known(ANSWERS, 2).tolist() == [True, False, False]


def test_the_known_probability_names_what_is_torn_between_characters():
    rule = decision.Decision("known_probability", 0.5)
    assert rule.is_known(ANSWERS, 2).tolist() == [True, True, False]


def test_the_rule_travels_in_the_metadata():
    rule = decision.Decision("known_probability", 0.7)
    assert decision.from_metadata({"decision": rule.metadata()}) == rule


def test_a_file_of_the_older_format_names_everything():
    assert decision.from_metadata({"format_version": 1}).is_known(ANSWERS, 2).all()


@pytest.mark.parametrize(
    "record", [{}, {"score": "magic", "threshold": 0.5}, {"score": "known_probability", "threshold": 2}, 3]
)
def test_a_damaged_rule_is_told(record):
    with pytest.raises(UserError, match="when to decline"):
        decision.from_metadata({"decision": record})

"""A button that takes a picture and shows who is in it, for a notebook."""

import ipywidgets
import pandas as pd
from IPython.display import display
from PIL import Image

from lib.data import pictures
from lib.errors import UserError
from lib.evaluation import tables
from lib.inference.recogniser import Recogniser

SHOWN_SIDE = 320  # pixels
TOP = 5


def show_answer(contents: bytes, network: Recogniser) -> None:
    """Show a picture, who is in it, and the most probable characters, as the output of a cell.

    Args:
        contents: Bytes of a picture file; `UserError` where they are none, or exceed a limit.
        network: Who names it.
    """
    answer = network.predict(contents, top=TOP)
    display(Image.fromarray(pictures.decode_full(contents, longest=SHOWN_SIDE)))
    print(" and ".join(found.name for found in answer.found) or "not a known character")
    display(tables.for_reading(pd.DataFrame(answer.top)[["name", "probability"]]))


def upload_button(network: Recogniser) -> ipywidgets.Widget:
    """Make a button that opens a picture file and shows the network's answer below itself.

    A mistake is one line of text. The button is to be the value of a cell.
    """
    button = ipywidgets.FileUpload(accept="image/*", multiple=False, description="Choose a picture")
    button.layout.width = "14em"
    below = ipywidgets.Output()

    def answer(change: dict) -> None:
        below.clear_output()
        for file in change["new"]:
            with below:
                try:
                    show_answer(bytes(file["content"]), network)
                except UserError as problem:
                    print(problem)

    button.observe(answer, "value")
    return ipywidgets.VBox([button, below])

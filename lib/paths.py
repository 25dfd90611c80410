"""Where things are, whatever the working directory.

papermill runs a notebook in the caller's directory, JupyterLab and Voila in the notebook's own; a relative
path would mean three different places.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
PARAMS = NOTEBOOKS / "params"
DATA = ROOT / "data"
RAW = DATA / "raw"
PROCESSED = DATA / "processed"
OUTPUTS = ROOT / "outputs"
PUBLISHED = OUTPUTS / "published"
DOCS = ROOT / "docs"
STUDY = DOCS / "study"  # the executed copies of the notebooks
SETTINGS = ROOT / ".make"  # in place of the user's own settings of programs


def shown(path: Path) -> str:
    """Write a path as people read it: in the repository, below its root."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)

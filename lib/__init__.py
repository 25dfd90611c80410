"""The modules that the notebooks share."""

import os
import sys
from pathlib import Path

# TensorFlow greets with a screenful on every import; errors still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# By default TensorFlow uses its oneDNN kernels on processors with AVX-512 only. On others, too, springfield trains up
# to 1.45 times as fast with them.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# The settings of Keras and matplotlib are this project's own: a user's `keras.json` may name another order of axes,
# float type or backend, and a `matplotlibrc` other figures.
os.environ["KERAS_HOME"] = str(Path(__file__).resolve().parents[1] / ".make" / "keras")
os.environ["MATPLOTLIBRC"] = os.devnull
# Nor does a backend of the user's, which may be one that matplotlib no longer has; a notebook's stays.
if "inline" not in os.environ.get("MPLBACKEND", ""):
    os.environ.pop("MPLBACKEND", None)

# Where one is closed, the next file that is opened would get its number, and with it the messages of C++ code.
for _stream, _mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
    if getattr(sys, _stream) is None:
        setattr(sys, _stream, Path(os.devnull).open(_mode, encoding="utf-8"))  # noqa: SIM115 (for good)

# Ctrl-C while a command still loads its modules is no mistake with a traceback; once it runs, it says how to go on.
_report = sys.excepthook
sys.excepthook = lambda kind, *rest: None if issubclass(kind, KeyboardInterrupt) else _report(kind, *rest)

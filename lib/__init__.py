"""The modules that the notebooks share."""

import os
import sys

# TensorFlow greets with a screenful on every import; errors still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow's oneDNN kernels are off by default on processors without AVX-512, where springfield trains 1.45 times as fast
# with them; on all others they are on.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# jsonschema, which reads notebooks, loads this package where it can: it compiles 39 grammars at import, five seconds
# here, to check international addresses that no notebook has. Without it jsonschema leaves that check out.
sys.modules.setdefault("rfc3987_syntax", None)

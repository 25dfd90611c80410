"""Who may import whom inside `lib`: the README's table, held to the code."""

import ast
from pathlib import Path

import pytest

from lib import paths

# A room may import the rooms named here and nothing else of `lib`; `*` stands for the other modules of a folder.
COMMON = {"lib.errors", "lib.characters"}
ALLOWED = {
    "lib": set(),
    "lib.errors": set(),
    "lib.paths": set(),
    "lib.characters": set(),
    "lib.records": {"lib.paths"},
    "lib.notebooks": {"lib.paths", "lib.records"},
    "lib.report": {"lib.records"},
    "lib.predict": {"lib.paths", "lib.records", "lib.data.pictures", "lib.inference.recogniser", "lib.serving.fetch"},
    "lib.data": set(),
    "lib.data.pictures": set(),
    "lib.drawing.sample": {"lib.drawing.figures"},
    "lib.drawing.figures": set(),
    "lib.data.dataset": {"lib.drawing.sample", "lib.data.pictures"},
    "lib.data.sources": {"lib.paths", "lib.drawing.sample", "lib.data.pictures"},
    "lib.data.duplicates": set(),
    "lib.data.manifest": {"lib.data.pictures", "lib.data.duplicates", "lib.records"},
    "lib.training.batches": {"lib.data.manifest"},
    "lib.training": set(),
    "lib.training.networks": set(),
    "lib.training.optimizers": set(),
    "lib.training.recipe": {"lib.training.networks", "lib.training.optimizers", "lib.training.export"},
    "lib.training.resume": {"lib.records"},
    "lib.training.export": {"lib.records", "lib.training.quantization"},
    "lib.training.quantization": set(),
    "lib.evaluation": set(),
    "lib.evaluation.*": {"lib.records"},
    "lib.serving": set(),
    "lib.inference.recogniser": {"lib.paths", "lib.records", "lib.data.pictures", "lib.serving.fetch"},
    "lib.serving.fetch": {"lib.data.pictures"},
    "lib.serving.limits": set(),
    "lib.serving.visitors": {"lib.inference.recogniser"},
    "lib.serving.handlers": {
        *("lib.data.pictures", "lib.inference.recogniser"),
        *("lib.serving.limits", "lib.serving.visitors"),
    },
    "lib.serving.server": {
        *("lib.paths", "lib.inference.recogniser"),
        *("lib.serving.handlers", "lib.serving.limits", "lib.serving.visitors"),
    },
    "lib.serving.page": {
        *("lib.paths", "lib.data.pictures", "lib.drawing.sample"),
        *("lib.evaluation.occlusion", "lib.inference.recogniser"),
    },
    "lib.serving.dropzone": {"lib.data.pictures", "lib.serving.page", "lib.inference.recogniser"},
}
MODULES = sorted(paths.ROOT.glob("lib/**/*.py"))
# These weigh hundreds of megabytes; a process that only predicts, or only reads pictures, must not load them.
HEAVY = {"tensorflow", "keras", "torch", "jax"}
MAY_IMPORT_HEAVY = {
    "lib.training.batches": {"keras"},
    "lib.training.networks": {"keras"},
    "lib.training.resume": {"keras"},
}
MAY_IMPORT_HEAVY |= {"lib.training.optimizers": {"keras", "torch"}, "lib.training.export": {"keras", "tensorflow"}}
MAY_IMPORT_HEAVY |= {"lib.training.quantization": {"keras"}}


def name_of(module: Path) -> str:
    parts = module.relative_to(paths.ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(module: Path) -> set[str]:
    """Every module that a file imports, also inside functions; `from lib.data import x` counts as `lib.data.x`."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def module_named(imported: str) -> str:
    """Cut a name such as `lib.errors.UserError` to the module that holds it."""
    path = paths.ROOT / imported.replace(".", "/")
    return imported if path.is_dir() or path.with_suffix(".py").exists() else imported.rpartition(".")[0]


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_imports_only_what_the_table_allows(module):
    name = name_of(module)
    allowed = ALLOWED.get(name, ALLOWED.get(f"{name.rpartition('.')[0]}.*"))
    assert allowed is not None, f"{name} is not in the table of who may import whom"
    used = {module_named(i) for i in imports(module) if i.split(".")[0] == "lib"} - {"lib"}
    assert used <= allowed | COMMON


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_heavy_frameworks_stay_where_they_belong(module):
    used = {imported.split(".")[0] for imported in imports(module)} & HEAVY
    assert used <= MAY_IMPORT_HEAVY.get(name_of(module), set())


def test_no_path_is_pushed_onto_the_search_path():
    sources = [*MODULES, *paths.NOTEBOOKS.glob("*.ipynb")]
    assert [s.name for s in sources if "sys.path" in s.read_text(encoding="utf-8")] == []

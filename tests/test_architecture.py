"""Who may import whom, at module load; and what a listing or `--help` may not load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "robench"

MAY_IMPORT = {
    "core": set(),
    "numerics": {"core"},
    "data": {"core"},
    "figures": {"core"},
    "boards": {"core", "figures"},
    "models": {"core", "numerics"},
    "attacks": {"core", "numerics"},
    "defenses": {"core", "models"},
    "evaluation": {"core", "numerics", "data", "models", "defenses", "attacks"},
    "training": {"core", "figures", "numerics", "data", "models", "defenses", "evaluation"},
    "audit": {"core", "numerics", "data", "models", "defenses", "attacks", "evaluation"},
    "cli": {"core"},
}
THIRD_PARTY = {
    "core": {"msgspec"},
    "boards": {"msgspec", "rich", "jinja2", "markupsafe"},
    "figures": {"msgspec"},
    "data": {"msgspec", "numpy", "PIL"},
    "cli": {"typer"},
}
INSIDE_FUNCTIONS_ONLY = {
    "pandas",
    "matplotlib",
    "ray",
    "foolbox",
    "pyautoattack",
    "robustbench",
    "torchvision",
    "pooch",
    "platformdirs",
}


def _is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def _loaded(statements: list[ast.stmt]) -> list[str]:
    """Modules imported when the file is loaded: not in functions, not under TYPE_CHECKING."""
    found: list[str] = []
    for node in statements:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found.append(str(node.module))
        elif isinstance(node, ast.If | ast.Try | ast.ClassDef | ast.With):
            if not _is_type_checking(node):
                found += _loaded(node.body)
            found += _loaded(getattr(node, "orelse", []))
    return found


def _files() -> list[tuple[str, Path]]:
    return [
        (path.relative_to(ROOT).parts[0], path)
        for path in sorted(ROOT.rglob("*.py"))
        if len(path.relative_to(ROOT).parts) > 1
    ]


def violations(package: str, source: str) -> list[str]:
    """What the source of a file of `package` imports at load and may not."""
    bad = []
    for name in _loaded(ast.parse(source).body):
        top, *rest = name.split(".")
        if top == "robench":
            other = rest[0] if rest else ""
            if other not in MAY_IMPORT[package] | {package}:
                bad.append(name)
        elif top in INSIDE_FUNCTIONS_ONLY or (
            top not in sys.stdlib_module_names
            and package in THIRD_PARTY
            and top not in THIRD_PARTY[package]
        ):
            bad.append(name)
    return bad


@pytest.mark.parametrize(
    ("package", "path"),
    _files(),
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_a_file_imports_only_what_its_package_may(package: str, path: Path) -> None:
    assert violations(package, path.read_text()) == []


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("core", "import torch"),
        ("numerics", "from robench.models.view import ModelView"),
        ("boards", "import numpy"),
        ("attacks", "import foolbox"),
        ("models", "try:\n    import torchvision\nexcept ImportError:\n    pass"),
        ("evaluation", "from robench.cli.main import app"),
        ("cli", "from robench.evaluation.run import evaluate"),
    ],
)
def test_planted_imports_are_caught(package: str, source: str) -> None:
    assert violations(package, source)


def test_imports_for_types_and_inside_functions_are_free() -> None:
    source = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
        "def f():\n    import foolbox\n"
    )
    assert violations("core", source) == []


@pytest.mark.parametrize(
    "command", ["--help", "eval --help", "audit --help", "list attacks", "list defenses"]
)
def test_help_and_lists_load_nothing_heavy(command: str) -> None:
    code = (
        "import sys\nfrom robench.cli.main import app\n"
        f"try:\n    app({command.split()!r}, standalone_mode=True)\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout

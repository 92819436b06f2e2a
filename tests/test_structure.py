"""The layers: which package may import which, and what an import may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "shared": {"shared"},
    "api": {"api", "shared"},
    "worker": {"worker", "shared"},
    "deploy": {"deploy", "api", "worker", "shared"},
}


def _imported_modules(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_lies_further_in(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        packages = {name.split(".")[0] for name in _imported_modules(file)}
        foreign = (packages & ALLOWED.keys()) - ALLOWED[package]
        assert not foreign, f"{file.relative_to(ROOT)} imports {foreign}"


def test_no_test_imports_another():
    files = list((ROOT / "tests").rglob("*.py"))
    assert files
    for file in files:
        others = [name for name in _imported_modules(file) if name.rpartition(".")[2].startswith("test_")]
        assert not others, f"{file.relative_to(ROOT)} imports {others}"


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("api.app", ("torch", "torchvision", "worker")),
        ("api.server", ("torch", "torchvision", "worker")),
        ("worker.main", ("flask", "api")),
        ("worker.training.fine_tune", ("flask", "api")),
        ("deploy.cli", ("torch", "flask_openapi3")),
    ],
)
def test_importing_one_side_never_loads_the_others_libraries(module, forbidden):
    code = f"import sys, {module}; print(*(name for name in {forbidden!r} if name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == ""


def test_no_import_of_ours_connects_or_reads_the_settings():
    code = "import api.app, worker.main, deploy.cli"
    subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, env={"DERMQUEUE_NONSENSE": "1", "PATH": "/usr/bin"}
    )

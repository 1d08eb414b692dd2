from __future__ import annotations

import email
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import red_tui

ROOT = Path(__file__).parents[2]
LEFT_OUT = ("__pycache__", "*.pyc", "*.egg-info", "build", "dist", "__snapshots__")
TOP_LEVEL = (
    "LICENSE",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "MANIFEST.in",
    "Makefile",
    "constraints.txt",
)


def files_under(folder: Path) -> set[str]:
    """Paths of the files below a folder, relative to it, without what Python writes by itself."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in found if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str], set[str]]:
    """The source distribution and the wheel that is made from it: the wheel's path, names in each."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in ("red_tui", "layouts", "tests"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in (*TOP_LEVEL, "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, tree / name)
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    with tarfile.open(sdist) as archive:
        in_sdist = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    return wheel, in_wheel, in_sdist


@pytest.mark.timeout(240)
def test_the_wheel_holds_every_module_layout_style_and_data_file_and_nothing_else(
    built: tuple[Path, set[str], set[str]],
) -> None:
    _, in_wheel, _ = built
    package = {f"red_tui/{name}" for name in files_under(ROOT / "red_tui")}
    layouts = {f"red_tui/layouts/{name}" for name in files_under(ROOT / "layouts")}
    shipped = {name for name in in_wheel if ".dist-info/" not in name}
    assert shipped == package | layouts
    assert "red_tui/py.typed" in shipped and any(name.endswith(".tcss") for name in shipped)


def test_the_source_distribution_holds_what_the_wheel_needs_and_nothing_of_the_tests(
    built: tuple[Path, set[str], set[str]],
) -> None:
    _, _, in_sdist = built
    package = {f"red_tui/{name}" for name in files_under(ROOT / "red_tui")}
    layouts = {f"layouts/{name}" for name in files_under(ROOT / "layouts")}
    assert package | layouts | set(TOP_LEVEL) <= in_sdist
    assert not {name for name in in_sdist if name.startswith("tests")}


def test_the_metadata_names_licence_authors_and_the_one_version(built: tuple[Path, set[str], set[str]]) -> None:
    wheel, in_wheel, _ = built
    (metadata_name,) = (name for name in in_wheel if name.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(metadata_name))
    assert metadata["Version"] == red_tui.__version__
    assert metadata["License-Expression"] == "Apache-2.0" and metadata["License-File"] == "LICENSE"
    assert metadata["Author"] == "red-tui developers"
    assert metadata["Keywords"] and "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert not metadata.get_all("Project-URL", []) and metadata["Home-page"] is None
    assert (ROOT / "pyproject.toml").read_text().count(red_tui.__version__) == 0


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "red_tui").rglob("*.py")}
    assert not {str(folder) for folder in folders if not (folder / "__init__.py").is_file()}

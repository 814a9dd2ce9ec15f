"""The wheel holds everything that the package reads when it runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from msdet.models.checkpoint import load_model
from msdet.models.packages import MAX_BYTES, shipped_models

ROOT = Path(__file__).parent.parent

PROGRAM = """
import sys
from pathlib import Path

target = sys.argv[1]
sys.path.insert(0, target)
import msdet
from msdet.arrays import array_names, load_array
from msdet.models.encoders import ENCODERS

assert Path(msdet.__file__).is_relative_to(target), msdet.__file__
for name in array_names():
    assert load_array(name).microphones >= 2
print(*array_names(), *ENCODERS.names())
"""


def run(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the source tree, so that nothing is written beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "msdet", source / "msdet", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(source), cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    for pattern in ("*.py", "presets/*.toml", "configs/*.yaml", "configs/scenes/*.yaml", "templates/*", "py.typed"):
        found = [str(p.relative_to(ROOT)) for p in (ROOT / "msdet").rglob(pattern)]
        assert found, pattern
        assert not set(found) - inside, pattern
    shipped = [str(p.relative_to(ROOT)) for p in (ROOT / "msdet" / "pretrained").rglob("*") if p.is_file()]
    assert not set(shipped) - inside
    assert not [name for name in inside if name.startswith(("tests", "tools", "recipes", "benchmarks"))]


def test_the_shipped_models_are_small_and_whole() -> None:
    files = [p for p in (ROOT / "msdet" / "pretrained").rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 6_000_000
    assert {p.name for p in files} <= MAX_BYTES.keys()
    for model in shipped_models():
        assert {p.name for p in files if p.parent.name == model.name} == MAX_BYTES.keys()
        assert load_model(model.name).sample_rate == model.sample_rate


def test_installed_wheel_finds_its_arrays_and_command_line(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")
    run(*pip, "--target", str(target), str(wheel), cwd=tmp_path)
    (tmp_path / "elsewhere").mkdir()
    found = run(sys.executable, "-c", PROGRAM, str(target), cwd=tmp_path / "elsewhere").split()
    assert {p.stem for p in (ROOT / "msdet" / "arrays" / "presets").glob("*.toml")} <= set(found)
    assert "ft_gru" in found
    program = f"import sys; sys.path.insert(0, {str(target)!r}); from msdet.cli import main; main(['--help'])"
    assert "usage: msdet <command>" in run(sys.executable, "-c", program, cwd=tmp_path / "elsewhere")

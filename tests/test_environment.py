"""The environment: three files that agree, and a `.venv` that is never trusted half-made."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def asked() -> list[Requirement]:
    lines = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]
    return [Requirement(line) for line in lines]


# ── The files agree ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wanted", asked(), ids=lambda wanted: wanted.name)
def test_every_dependency_is_pinned_inside_its_bounds(wanted: Requirement) -> None:
    assert pins()[canonicalize_name(wanted.name)] in wanted.specifier


def test_constraints_hold_exact_versions_and_no_addresses() -> None:
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        assert line.startswith("#") or re.fullmatch(r"[a-z0-9.-]+==[0-9][0-9a-z.]*", line), line


def test_torch_is_pinned_to_the_version_the_course_was_measured_with() -> None:
    assert pins()["torch"] == "2.13.0"


@pytest.mark.skipif(
    not (Path(sys.prefix) / "mistral_edu.stamp").is_file(),
    reason="this environment was not made by `make`, so its versions are its owner's choice",
)
def test_what_make_installed_is_what_is_pinned() -> None:
    for name in {canonicalize_name(wanted.name) for wanted in asked()}:
        assert Version(metadata.version(name)).public == pins()[name], name


def test_conda_gives_python_and_pip_and_nothing_else() -> None:
    plain = [item for item in CONDA["dependencies"] if isinstance(item, str)]
    assert [item.split("=")[0] for item in plain] == ["python", "pip"]


def test_conda_takes_the_rest_from_the_same_two_files() -> None:
    (through_pip,) = [item["pip"] for item in CONDA["dependencies"] if isinstance(item, dict)]
    assert through_pip == ["--constraint constraints.txt", "--editable .[test]"]


def test_conda_python_is_one_the_package_accepts() -> None:
    (python,) = [item for item in CONDA["dependencies"] if str(item).startswith("python=")]
    assert python.split("=")[1] + ".0" in SpecifierSet(PROJECT["requires-python"])


def test_the_versions_makefile_accepts_are_those_the_package_accepts(maker: ModuleType) -> None:
    accepted = SpecifierSet(PROJECT["requires-python"])
    for minor in range(8, 17):
        inside = maker.OLDEST <= (3, minor) <= maker.NEWEST
        assert (f"3.{minor}.0" in accepted) == inside


# ── `.venv` is built once, and again when it is not right ───────────────────────────────────────


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/environment.py whose install step needs no network; `.runs` counts its builds."""
    spec = importlib.util.spec_from_file_location("environment", ROOT / "tools/environment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.runs = []

    def run(command: list[str], root: Path) -> None:
        if "venv" in command:
            subprocess.run([*command, "--without-pip"], check=True)
        else:
            module.runs.append(command)

    monkeypatch.setattr(module, "_run", run)
    return module


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the files an environment is built from."""
    root = tmp_path / "clone"
    root.mkdir()
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    return root


def test_an_absent_environment_is_built(maker: ModuleType, clone: Path) -> None:
    assert maker.ensure(clone) > 0
    assert maker.is_ready(clone)
    assert maker.runs[0][-1] == ".[test]"


def test_a_finished_environment_is_left_alone(maker: ModuleType, clone: Path) -> None:
    maker.ensure(clone)
    assert maker.ensure(clone) == 0
    assert len(maker.runs) == 1


def test_an_interrupted_install_is_cleared_and_built_again(
    maker: ModuleType, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(maker, "ask_for_stamp", lambda root: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            maker.ensure(clone)
    leftover = clone / ".venv" / "half-unpacked"
    leftover.touch()
    assert maker.ensure(clone) > 0
    assert maker.is_ready(clone) and not leftover.exists()


def test_a_failed_step_names_itself_and_leaves_no_stamp(clone: Path) -> None:
    spec = importlib.util.spec_from_file_location("environment", ROOT / "tools/environment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(module.EnvironmentProblem, match="stopped at `false`"):
        module._run(["false"], clone)
    assert not module.is_ready(clone)


def test_an_environment_without_its_interpreter_is_built_again(
    maker: ModuleType, clone: Path
) -> None:
    maker.ensure(clone)
    maker.interpreter(clone).unlink()
    assert maker.ensure(clone) > 0 and maker.is_ready(clone)


def test_an_environment_of_a_removed_python_is_built_again(maker: ModuleType, clone: Path) -> None:
    maker.ensure(clone)
    python = maker.interpreter(clone)
    python.unlink()
    python.symlink_to(clone / "python-that-was-uninstalled")
    assert maker.ensure(clone) > 0 and maker.is_ready(clone)


def test_a_moved_clone_gets_a_new_environment(maker: ModuleType, clone: Path) -> None:
    maker.ensure(clone)
    moved = clone.rename(clone.with_name("moved"))
    assert not maker.is_ready(moved)


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml"])
def test_changed_versions_get_a_new_environment(maker: ModuleType, clone: Path, name: str) -> None:
    maker.ensure(clone)
    text = (clone / name).read_text(encoding="utf-8")
    (clone / name).write_text(re.sub(r"tqdm([>=]=)[\d.]+", r"tqdm\g<1>4.1", text), encoding="utf-8")
    assert not maker.is_ready(clone)


def test_changed_tool_settings_keep_the_environment(maker: ModuleType, clone: Path) -> None:
    maker.ensure(clone)
    with (clone / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write('\n[tool.coverage.run]\nsource = ["mistral_edu"]\n')
    assert maker.is_ready(clone)


def test_a_file_in_the_way_is_named_and_kept(maker: ModuleType, clone: Path) -> None:
    (clone / ".venv").write_text("mine", encoding="utf-8")
    with pytest.raises(maker.EnvironmentProblem, match="in the way"):
        maker.ensure(clone)
    assert (clone / ".venv").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("version", [(3, 8), (3, 10), (3, 14)])
def test_an_unsuitable_python_is_told_which_ones_would_do(
    maker: ModuleType, version: tuple[int, int]
) -> None:
    with pytest.raises(maker.EnvironmentProblem, match=r"3\.11, 3\.12 or 3\.13.*PYTHON=python3"):
        maker.check_python(version, importlib.util.find_spec)


def test_a_python_without_venv_is_told_what_to_install(maker: ModuleType) -> None:
    with pytest.raises(maker.EnvironmentProblem, match="python3-venv"):
        maker.check_python((3, 11), lambda name: None if name == "ensurepip" else name)


def test_a_word_it_does_not_know_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, str(ROOT / "tools/environment.py"), "--help"]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 2 and "takes no argument" in answer.stderr

"""`mistral-edu lab`: whose lessons it opens, what it never overwrites, and what it never asks."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from mistral_edu import cli, paths
from mistral_edu.commands import lab

LESSON_00 = Path(lab.LESSONS, lab.FIRST_LESSON)


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Pretend to be an installed wheel with two lessons, in an empty working folder."""
    package = tmp_path / "package"
    (package / "_notebooks").mkdir(parents=True)
    for name in (lab.FIRST_LESSON, "06_sliding_window.ipynb"):
        (package / "_notebooks" / name).write_text('{"cells": []}', encoding="utf-8")
    (package / "viz").mkdir()
    for name in ("rope.py", "viz/ring.py"):
        (package / name).write_text("old", encoding="utf-8")
    monkeypatch.setattr(paths, "PACKAGE", package)
    monkeypatch.chdir(tmp_path)
    return package


def test_a_clone_opens_its_own_lessons() -> None:
    assert lab.course_folder(None) == Path(__file__).parent.parent


def test_a_wheel_copies_its_lessons_beside_the_learner(wheel: Path, tmp_path: Path) -> None:
    folder = lab.course_folder(None)
    assert folder == tmp_path / lab.COURSE_FOLDER
    copied = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    lessons = {f"notebooks/{lesson.name}" for lesson in (wheel / "_notebooks").iterdir()}
    assert copied == lessons | {"mistral_edu/rope.py", "mistral_edu/viz/ring.py"}


def test_every_link_of_a_copied_lesson_leads_to_a_file(tmp_path: Path) -> None:
    lessons = lab.course_folder(tmp_path / "mine") / lab.LESSONS
    for lesson in lessons.glob("*.ipynb"):
        for link in re.findall(
            r"\]\(([\w./]+\.(?:py|ipynb))\)", lesson.read_text(encoding="utf-8")
        ):
            assert (lessons / link).is_file(), (lesson.name, link)


def test_a_folder_or_a_port_that_cannot_be_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["lab", "--folder", str(tmp_path / "file")]) == 2
    said = capsys.readouterr().err
    assert "file cannot hold the lessons (Not a directory): choose another folder" in said
    with pytest.raises(SystemExit):
        cli.main(["lab", "--port", "99999"])
    assert "'99999' is not a whole number from 1 to 65,535" in capsys.readouterr().err


def test_work_in_a_lesson_survives_a_second_start(wheel: Path, tmp_path: Path) -> None:
    mine = lab.course_folder(tmp_path / "mine") / LESSON_00
    mine.write_text("my answers", encoding="utf-8")
    lab.course_folder(tmp_path / "mine")
    assert mine.read_text(encoding="utf-8") == "my answers"


def test_the_source_to_read_is_that_of_the_installed_package(wheel: Path, tmp_path: Path) -> None:
    lab.course_folder(tmp_path / "mine")
    (wheel / "rope.py").write_text("new", encoding="utf-8")
    folder = lab.course_folder(tmp_path / "mine")
    assert (folder / lab.SOURCE / "rope.py").read_text(encoding="utf-8") == "new"


def test_missing_lessons_are_a_clear_error(wheel: Path) -> None:
    (wheel / "_notebooks" / lab.FIRST_LESSON).unlink()
    with pytest.raises(FileNotFoundError, match=lab.FIRST_LESSON):
        lab.course_folder(None)


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_only_root_is_given_leave_to_run_as_root(
    user: int, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    command = lab.lab_command(Path("lessons"), browser=True)
    assert ("--allow-root" in command) == allowed and "--no-browser" not in command


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address, token included, that `mistral-edu lab` prints where there is no screen."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    hidden = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}
    homes = ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR")
    surroundings = {**os.environ, **hidden, **{name: str(tmp_path / name) for name in homes}}
    command = [sys.executable, "-m", "mistral_edu", "lab", "--folder", str(tmp_path / "mine")]
    with subprocess.Popen(
        [*command, "--port", port],
        env=surroundings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        addresses = (re.search(r"http://127\S+", line) for line in process.stdout)
        yield next((found[0] for found in addresses if found), "it stopped before an address")
        process.terminate()


def fetched(address: str) -> bytes:
    """What the server sends; it prints its address a moment before it listens there."""
    for _ in range(100):
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return answer.read()
        except urllib.error.URLError as problem:
            if isinstance(problem, urllib.error.HTTPError):
                raise
            time.sleep(0.1)
    raise TimeoutError(f"nothing listens at {address}")


def test_lab_prints_an_address_that_opens_lesson_00_and_asks_nothing(served: str) -> None:
    assert f"/lab/tree/{LESSON_00}?token=" in served
    assert b"JupyterLab" in fetched(served)
    plugin = "@jupyterlab/apputils-extension:notification"
    settings = served.replace(f"lab/tree/{LESSON_00}", f"lab/api/settings/{plugin}")
    defaults = json.loads(fetched(settings))["schema"]["properties"]
    assert defaults["fetchNews"]["default"] == "false"
    assert defaults["checkForUpdates"]["default"] is False

"""A real JupyterLab and a real, headless Chromium: open a lesson, run it, touch it.

Where there is no Chromium the tests are skipped and say so; with MISTRAL_EDU_REQUIRE_BROWSER=1 that
is a failure instead, so that a machine meant to have one cannot quietly lose it.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"
# Seconds a busy machine may take for a server or a kernel; a free one needs five.
PATIENCE = 120
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SERVER_SETTINGS = """
c = get_config()
c.ServerApp.ip = "127.0.0.1"
c.ServerApp.port = {port}
c.ServerApp.port_retries = 0
c.ServerApp.open_browser = False
c.ServerApp.allow_root = True
c.ServerApp.root_dir = {root!r}
c.ServerApp.disable_check_xsrf = True
c.IdentityProvider.token = ""
c.PasswordIdentityProvider.hashed_password = ""
c.PasswordIdentityProvider.password_required = False
c.LabApp.expose_app_in_browser = True
c.LabApp.extension_manager = "readonly"
c.LabApp.workspaces_dir = {workspaces!r}
c.LabApp.user_settings_dir = {settings!r}
"""
# Cells outside the window must stay in the page, or nothing below the fold could be found.
USER_SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
KERNEL_IS_IDLE = """() => {
  const panel = window.jupyterapp?.shell.currentWidget;
  const kernel = panel?.sessionContext?.session?.kernel;
  return !!kernel && kernel.status === 'idle' && panel.content?.widgets?.length > 0;
}"""
RUN_ALL = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
ERROR_OUTPUT = '[data-mime-type="application/vnd.jupyter.error"]'
INTERRUPTION = ".Toastify__toast, .jp-Dialog"


@dataclass
class OpenLesson:
    """A lesson open in the browser, all its cells run."""

    page: object
    raised: list[str] = field(default_factory=list)

    def complaints(self) -> list[str]:
        """Whatever a learner should never see: errors in cells, in the page, pop-ups."""
        errors = self.page.locator(ERROR_OUTPUT).all_inner_texts()
        return self.raised + errors + self.page.locator(INTERRUPTION).all_inner_texts()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the installed Chromium."""
    found = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found:
        return found
    reason = "no Chromium on this machine: the browser tests need one on the PATH"
    if os.environ.get("MISTRAL_EDU_REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser(chromium):
    """One headless Chromium for all browser tests."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def lab(chromium, tmp_path_factory):
    """A JupyterLab server of its own: (address, folder it serves)."""
    home = tmp_path_factory.mktemp("lab")
    folders = {name: home / name for name in ("root", "workspaces", "settings", "config", "run")}
    for folder in folders.values():
        folder.mkdir()
    for name, settings in USER_SETTINGS.items():
        path = folders["settings"] / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    port = free_port()
    places = {name: str(folder) for name, folder in folders.items()}
    config = folders["config"] / "server.py"
    config.write_text(SERVER_SETTINGS.format(port=port, **places))
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": places["config"],
        "JUPYTER_RUNTIME_DIR": places["run"],
        "IPYTHONDIR": places["config"],
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", "jupyterlab", "--config", str(config)]
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_it_answers(address, server, home / "server.log")
        yield address, folders["root"]
    finally:
        server.terminate()
        server.wait(timeout=20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_it_answers(address: str, server: subprocess.Popen, log: Path) -> None:
    """Wait; a server that stops, or stays silent too long, fails with its own last words."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/api/status", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail("JupyterLab did not start:\n" + log.read_text(errors="replace")[-2000:])


@pytest.fixture(scope="module")
def open_lesson(browser, lab, request):
    """A function that opens a fresh copy of a lesson and runs all its cells.

    A fresh copy each time, because a kernel outlives the page that started it.
    """
    address, root = lab
    pages = []

    def open_and_run(stem: str, folder: Path = NOTEBOOKS) -> OpenLesson:
        name = f"{len(pages)}_{request.module.__name__}_{stem}.ipynb"
        shutil.copyfile(folder / f"{stem}.ipynb", root / name)
        page = browser.new_page(viewport={"width": 1280, "height": 1600})
        pages.append(page)
        lesson = OpenLesson(page)
        page.on("pageerror", lambda error: lesson.raised.append(str(error)))
        page.goto(f"{address}/lab/tree/{name}?reset", wait_until="domcontentloaded")
        page.wait_for_function(KERNEL_IS_IDLE, timeout=PATIENCE * 1000)
        page.evaluate(RUN_ALL)
        page.wait_for_function(KERNEL_IS_IDLE, timeout=PATIENCE * 1000)
        return lesson

    yield open_and_run
    for page in pages:
        page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        page.close()

"""What every test run needs, notebooks and browser included: repeatability and shape checks.

The environment is set here, before torch is imported, because notebook kernels inherit it.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ.update(
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    PYTHONHASHSEED="0",
    HF_HUB_OFFLINE="1",
    # A test must never touch the progress of the person who runs it.
    MISTRAL_EDU_HOME=tempfile.mkdtemp(prefix="mistral_edu_tests_"),
)
if "--nbval" in sys.argv:
    # Stored outputs are those of a CPU; the last digits of a GPU's sums differ.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

# Shapes in signatures are checked at run time in tests, and only there. The tower lets an int
# stand where a float is asked for, as Python's own typing rules do.
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
install_import_hook("mistral_edu", CHECKER)


@pytest.fixture
def repository() -> Path:
    """The root of the repository, for tests that start a process there."""
    return Path(__file__).parent


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove the temporary home."""
    shutil.rmtree(os.environ["MISTRAL_EDU_HOME"], ignore_errors=True)

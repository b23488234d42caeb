"""The kit's own checks as tests, in small sizes, where there is a GPU."""

import pytest
import torch

from tests.gpu import backends_check, engine_check, machine, model_check
from tests.gpu.steps import NotHere, Setting

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
STEPS = {
    "machine": machine,
    "backends": backends_check,
    "model": model_check,
    "engine": engine_check,
}
NAMES = [
    (step, name)
    for step, module in STEPS.items()
    for name in module.parts(Setting(out=None, device="cuda", small=True))
]


@pytest.mark.parametrize(("step", "name"), NAMES)
def test_a_check_passes_on_this_device(tmp_path, step, name):
    part = STEPS[step].parts(Setting(tmp_path, "cuda", small=True))[name]
    try:
        part()
    except NotHere as missing:
        pytest.skip(str(missing))

"""A process that is stopped in the middle of `save_pretrained` leaves the old checkpoint whole."""

import signal
import subprocess
import sys

import pytest
import torch

from mistral_edu import MistralForCausalLM
from tests.models import small_model

SAVE = """
import sys
from mistral_edu import MistralForCausalLM
folder, shard = sys.argv[1], int(sys.argv[2])
model = MistralForCausalLM.from_pretrained(folder)
model.lm_head.weight.data.add_(1)
{before}
model.save_pretrained(folder, max_shard_bytes=shard)
"""
# The disk takes no file beyond 30 kB, which is in the middle of the weights.
FULL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
"""
# Every tensor takes its time, so that Ctrl-C comes while some are written and some are not.
SLOWLY = """
import time
from mistral_edu.weights import saving
bytes_of, written = saving.made_bytes, []
def slowly(*arguments):
    written.append(bytes_of(*arguments))
    if len(written) == 9:
        print("in the middle", flush=True)
        time.sleep(60)
    return written[-1]
saving.made_bytes = slowly
"""


def files(folder):
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def start(repository, before, folder, shard):
    return subprocess.Popen(
        [sys.executable, "-c", SAVE.format(before=before), folder, str(shard)],
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def require_the_old_model(folder, before):
    assert files(folder) == before
    again = MistralForCausalLM.from_pretrained(folder)
    assert torch.equal(again.lm_head.weight, small_model().lm_head.weight)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_a_full_disk_leaves_the_old_checkpoint(repository, tmp_path):
    small_model().save_pretrained(tmp_path)
    before = files(tmp_path)
    process = start(repository, FULL_DISK, tmp_path, shard=10**9)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and "OSError: [Errno 27]" in errors, errors
    require_the_old_model(tmp_path, before)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to a whole group")
def test_ctrl_c_leaves_the_old_shards(repository, tmp_path):
    small_model().save_pretrained(tmp_path, max_shard_bytes=20_000)
    before = files(tmp_path)
    process = start(repository, SLOWLY, tmp_path, shard=20_000)
    assert process.stdout.readline() == "in the middle\n", process.communicate()[1]
    assert files(tmp_path) != before  # it is writing, beside the old files
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0 and "KeyboardInterrupt" in errors, errors
    require_the_old_model(tmp_path, before)

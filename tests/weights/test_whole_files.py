"""Files that appear whole or not at all: after errors, a full disk and Ctrl-C."""

import signal
import stat
import threading

import pytest

from mistral_edu.weights import whole_files
from mistral_edu.weights.whole_files import move_all, uninterrupted, whole_file, whole_set


def contents(folder):
    """Every file under a folder, hidden ones included."""
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_a_file_appears_when_the_block_ends_and_not_before(tmp_path):
    with whole_file(tmp_path / "a") as file:
        file.write(b"new")
        file.flush()
        assert not (tmp_path / "a").exists()
    assert contents(tmp_path) == {"a": "new"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_file_that_failed_leaves_the_old_one_and_nothing_else(tmp_path, error):
    (tmp_path / "a").write_text("old")
    with pytest.raises(type(error)), whole_file(tmp_path / "a") as file:
        file.write(b"ne")
        raise error
    assert contents(tmp_path) == {"a": "old"}


def test_what_the_disk_refuses_only_at_the_end_leaves_the_old_file(tmp_path, monkeypatch):
    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(whole_files.os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"), whole_file(tmp_path / "a") as file:
        file.write(b"new")
    assert contents(tmp_path) == {"a": "old"}


def test_a_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    with whole_file(tmp_path / "a"):
        pass
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "plain").stat().st_mode
    )


def test_a_set_appears_together(tmp_path):
    with whole_set(tmp_path / "new" / "folder") as staging:
        (staging / "a").write_text("1")
        (staging / "b").write_text("2")
        assert not (tmp_path / "new" / "folder" / "a").exists()
    assert contents(tmp_path / "new" / "folder") == {"a": "1", "b": "2"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_set_that_failed_leaves_the_old_one_and_nothing_else(tmp_path, error):
    (tmp_path / "a").write_text("old")
    with pytest.raises(type(error)), whole_set(tmp_path) as staging:
        (staging / "a").write_text("new")
        raise error
    assert contents(tmp_path) == {"a": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_ctrl_c_while_a_set_is_moved_counts_when_it_has_moved(tmp_path):
    def move_with_ctrl_c(staging, folder, names):
        move_all(staging, folder, names[:1])
        signal.raise_signal(signal.SIGINT)
        move_all(staging, folder, names[1:])

    (tmp_path / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_set(tmp_path, move_with_ctrl_c) as staging:
        (staging / "a").write_text("1")
        (staging / "b").write_text("2")
    assert contents(tmp_path) == {"a": "1", "b": "2"}


def test_ctrl_c_works_as_before_after_the_block():
    before = signal.getsignal(signal.SIGINT)
    with uninterrupted():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_a_set_can_be_written_by_any_thread(tmp_path):
    def write():
        with whole_set(tmp_path) as staging:
            (staging / "a").write_text("1")

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    assert contents(tmp_path) == {"a": "1"}

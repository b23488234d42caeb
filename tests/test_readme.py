"""What the README shows can be typed."""

import re


def test_its_program_runs_and_the_engine_writes_the_same(repository, capsys):
    text = (repository / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(program, {})
    shape, plainly, by_the_engine = capsys.readouterr().out.strip().split("\nIt was")
    assert shape.startswith("torch.Size([1, ") and plainly == by_the_engine != ""

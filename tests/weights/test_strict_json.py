"""JSON from strangers: what has one reading is read, everything else is refused by name."""

import json
import tracemalloc

import pytest

from mistral_edu.weights.errors import WeightsError
from mistral_edu.weights.strict_json import LARGEST, parse_object, read_object

REFUSED = {
    "nothing": (b"", "is not valid JSON"),
    "not UTF-8": (b'{"\xff": 1}', "is not valid JSON .*utf-8"),
    "half a surrogate pair in a key": (b'{"\\ud800": 1}', "is no Unicode text"),
    "half a surrogate pair in a value": (b'{"a": "\\udfff"}', "is no Unicode text"),
    "a key twice": (b'{"a": 1, "a": 1}', "the key 'a' occurs twice"),
    "a key twice, inside": (b'{"b": {"a": 1, "a": 2}}', "the key 'a' occurs twice"),
    "a key twice, spelled differently": (b'{"a": 1, "\\u0061": 2}', "the key 'a' occurs twice"),
    "NaN": (b'{"a": NaN}', "NaN is not a number"),
    "infinity": (b'{"a": [-Infinity]}', "-Infinity is not a number"),
    "a number beyond float64": (b'{"a": 1e999}', "1e999 is too large"),
    "an integer of 5000 digits": (b'{"a": ' + b"9" * 5000 + b"}", "is not valid JSON"),
    "a list": (b"[1]", "holds a list, expected a JSON object"),
    "text after it": (b'{"a": 1} {"b": 2}', "is not valid JSON .*Extra data"),
    "100,000 brackets": (b'{"a": ' + b"[" * 100_000, "nested too deep|is not valid JSON"),
    "100,000 objects": (b'{"a": ' * 100_000, "nested too deep|is not valid JSON"),
    "100,000 closed brackets": (
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "nested too deep",
    ),
}


@pytest.mark.parametrize(("data", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_has_no_single_reading_is_refused(data, said):
    with pytest.raises(WeightsError, match=f"the index .*({said})"):
        parse_object(data, "the index")


def test_what_is_plain_is_read_as_python_reads_it():
    text = '{"a": [1, -2.5, true, null, "größe \\u5c64 \\ud83d\\ude00"], "b": {"a": {}}}'
    assert parse_object(text.encode(), "x") == json.loads(text)


def test_a_huge_file_is_refused_and_not_read(tmp_path):
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(8 * LARGEST)
    tracemalloc.start()
    with pytest.raises(WeightsError, match=f"huge.json has more than {LARGEST} bytes"):
        read_object(path)
    assert tracemalloc.get_traced_memory()[1] < 3 * LARGEST
    tracemalloc.stop()


def test_a_file_is_named_in_the_error(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(WeightsError, match="a.json is not valid JSON"):
        read_object(tmp_path / "a.json")

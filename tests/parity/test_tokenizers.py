"""A folder of ours in other people's hands: its tokenizer gives them the same ids."""

import pytest

from mistral_edu import load
from mistral_edu.paths import data_dir
from tests.text_samples import CORPUS

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("name", ["tiny", "tiny-instruct"])
def test_the_tokenizer_that_serving_engines_wrap_reads_our_file(name):
    backend = pytest.importorskip("transformers.tokenization_mistral_common").MistralCommonBackend
    theirs = backend.from_pretrained(str(data_dir() / name))
    _, ours = load(name)
    for text in ["Once upon a time there was a miller.", "Él dijo: «¡no!»", *CORPUS]:
        assert theirs.encode(text, add_special_tokens=False) == ours.encode(text, bos=False), text

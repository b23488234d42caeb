"""A recipe so small that a whole training takes seconds, and a tokenizer for it."""

from functools import cache

from mistral_edu.tokenizer import MistralTokenizer
from mistral_edu.training.world import stories

RECIPE = """
seed = 1
vocab_size = 500
vocabulary_stories = 60
[model]
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 1
sliding_window = 16
tie_word_embeddings = true
[training]
steps = 9
rows = 2
context = 256
warmup = 2
decay_steps = 3
checkpoint_every = 3
report_every = 4
"""


@cache
def tokenizer():
    return MistralTokenizer.train((story.text for story in stories(1, count=60)), 500)


def recipe_file(folder, text=RECIPE):
    path = folder / "training.toml"
    path.write_text(text, encoding="utf-8")
    return path

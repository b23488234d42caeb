"""Stand-ins for the peers of a measurement."""

import types

import torch

from mistral_edu import MistralForCausalLM
from mistral_edu.bench.ours import EngineSession


class PlainEngine:
    """The engine's interface over the plain model, at the plain model's speed."""

    def __init__(self, model, batch_size=1):
        self.model, self.cache = model, None

    @torch.no_grad()
    def prefill(self, ids, attention_mask=None):
        output = self.model(ids, attention_mask, use_cache=True)
        self.cache = output.past_key_values
        return output.logits[:, -1]

    @torch.no_grad()
    def step(self, ids):
        output = self.model(ids[:, None], past_key_values=self.cache, use_cache=True)
        return output.logits[:, -1]

    @property
    def cache_bytes(self):
        return self.cache.nbytes


class FakeEngine:
    """An opened peer with that engine."""

    def __init__(self, material):
        self.model = MistralForCausalLM.from_pretrained(material.folder)

    def session(self, batch, longest):
        return EngineSession(PlainEngine(self.model, batch))

    def close(self):
        self.model = None


class WrongSession:
    """Scores that no model of ours would give."""

    def __init__(self, config):
        self.config, self.rows = config, 0

    def start(self, ids):
        self.rows = len(ids)

    def step(self, ids):
        pass

    def logits(self):
        generator = torch.Generator().manual_seed(5)
        return torch.randn(self.rows, self.config.vocab_size, generator=generator)

    def cache_bytes(self):
        return 1

    def close(self):
        pass


def opened_by(session):
    """An opened peer whose sessions are made by a function."""
    return types.SimpleNamespace(session=session, close=lambda: None)

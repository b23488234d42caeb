"""Checkpoints from the Hugging Face Hub: one format of each, kept in the hub's own cache.

A repository often holds the same weights two or three times. One copy is fetched: safetensors files
in Hugging Face layout, or else the original `consolidated` files. `.bin` files, which can run code
when they are read, are never fetched.

Lesson: 11_weights.

Conventions
    The hub client resumes a connection that broke, shows progress, keeps complete files, and reads
    HF_TOKEN, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE. What is cached works without a network.
    This is the only module that downloads, and it imports the client when it is asked to.
"""

import re
from collections.abc import Collection, Iterable
from pathlib import Path

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
ORIGINAL = re.compile(r"consolidated[\w.-]*\.(safetensors|pth)")
WEIGHTS_LIKE = re.compile(r".*\.(bin|pt|pth|h5|msgpack|gguf|safetensors)")
PARTS = ("config", "weights", "tokenizer")


class HubError(OSError):
    """A checkpoint that could not be fetched; the message says why and what to do."""


def weight_files(names: Collection[str]) -> list[str]:
    """The files of one format of weights, the best that is there.

    Args:
        names: all files of a repository.

    Returns:
        model.safetensors; or the index and its shards; or the original consolidated files, as
        safetensors if possible, and their params.json; or nothing.

    >>> weight_files(["consolidated.00.pth", "consolidated.safetensors", "params.json"])
    ['consolidated.safetensors', 'params.json']
    >>> weight_files(["pytorch_model.bin"])
    []
    """
    if "model.safetensors" in names:
        return ["model.safetensors"]
    if "model.safetensors.index.json" in names:
        shards = sorted(name for name in names if SHARD.fullmatch(name))
        return ["model.safetensors.index.json", *shards]
    original = sorted(name for name in names if ORIGINAL.fullmatch(name))
    safe = [name for name in original if name.endswith(".safetensors")]
    return [*(safe or original), "params.json"] if original else []


def wanted_files(names: Collection[str], parts: Iterable[str] = PARTS) -> list[str]:
    """Which of a repository's files to fetch.

    Args:
        names: all its files.
        parts: of "config", "weights" and "tokenizer".

    >>> wanted_files(["README.md", "config.json", "model.safetensors", "tokenizer.model"])
    ['config.json', 'model.safetensors', 'tokenizer.model']
    """
    of_part = {
        "config": ["config.json" if "config.json" in names else "params.json"],
        "weights": weight_files(names),
        "tokenizer": sorted(name for name in names if name.startswith("tokenizer.model")),
    }
    return list(dict.fromkeys(name for part in parts for name in of_part[part]))


def download(repository: str, *, revision: str | None = None, parts: Iterable[str] = PARTS) -> Path:
    """Fetch what is not cached yet, and return the folder that holds it.

    Args:
        repository: "owner/name".
        revision: a branch, tag or commit; None is the main branch.
        parts: of "config", "weights" and "tokenizer".

    Raises:
        HubError: if there is no network and nothing cached, no such repository or revision, no
            right to read it, or no weights in it that can be read safely.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RevisionNotFoundError

    parts = tuple(parts)
    try:
        siblings = HfApi().model_info(repository, revision=revision).siblings or []
    # Which errors mean "no network" depends on the HTTP library that the client is built on.
    except Exception as error:
        folder = _cached_folder(repository, revision, parts)
        if folder is None or isinstance(error, RevisionNotFoundError):
            raise HubError(explanation(repository, revision, error)) from error
        return folder
    names = [file.rfilename for file in siblings]
    _require_weights(repository, names, parts)
    wanted = wanted_files(names, parts)
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=wanted))
    except Exception as error:
        raise HubError(
            f"downloading {repository!r} failed ({type(error).__name__}: {error}): ask again, "
            "files that are complete are kept"
        ) from error


def _require_weights(repository: str, names: list[str], parts: Collection[str]) -> None:
    if "weights" in parts and not weight_files(names):
        others = [name for name in names if WEIGHTS_LIKE.fullmatch(name)]
        raise HubError(
            f"{repository!r} has no model.safetensors and no consolidated files"
            f" (but {', '.join(others[:5]) or 'no weights at all'}): choose a repository or "
            "revision with safetensors"
        )


def _cached_folder(repository: str, revision: str | None, parts: Iterable[str]) -> Path | None:
    """The cached snapshot, if it holds all `parts`; whether every shard is there, loading says."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        # Without a pattern the client would miss the files that were left out on purpose.
        folder = snapshot_download(
            repository, revision=revision, local_files_only=True, allow_patterns="config.json"
        )
    except LocalEntryNotFoundError:
        return None
    held = {path.name for path in Path(folder).iterdir()}
    wanted = [wanted_files(held, [part]) for part in parts]
    return Path(folder) if all(files and held.issuperset(files) for files in wanted) else None


def explanation(repository: str, revision: str | None, error: Exception) -> str:
    """Why a repository could not be read, and what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return (
            f"{repository!r} is gated: ask for access on its page, then run `hf auth login` or set "
            "HF_TOKEN"
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{repository!r} is neither a folder here nor a repository on the hub that you may "
            "read: check the spelling; if it is private, run `hf auth login`"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{repository!r} has no revision {revision!r}: give a branch, tag or commit of it"
    if isinstance(error, OfflineModeIsEnabled):
        return (
            f"{repository!r} is neither a folder here nor cached, and HF_HUB_OFFLINE forbids to "
            "fetch it: unset HF_HUB_OFFLINE, or give a folder"
        )
    return (
        f"{repository!r} is not cached and the hub cannot be reached ({type(error).__name__}: "
        f"{error}): connect to the internet once, or give a folder"
    )

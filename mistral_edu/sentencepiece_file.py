"""The `tokenizer.model` file: scored pieces and a few settings, as SentencePiece stores them.

    file = piece (1) …   trainer settings (2)   normalizer settings (3)      numbers: field numbers

A piece is its text (1), its score (2) and its kind (3). The id of a piece is its place in the file.

Source: SentencePiece (Kudo and Richardson, 2018, arXiv:1808.06226), `sentencepiece_model.proto`.
Built in lesson 01. Conventions: a setting absent from the file has the value that SentencePiece
gives it; a file that SentencePiece would read differently from us is refused, and says why.
"""

import functools
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from mistral_edu.sentencepiece_model import (
    UNKNOWN_SURFACE,
    Kind,
    Piece,
    SentencePieceModel,
)
from mistral_edu.wire_format import (
    Read,
    TokenizerFileError,
    Value,
    damaged,
    read_fields,
    write_field,
)

PIECE, TRAINER, NORMALIZER, DENORMALIZER = 1, 2, 3, 5
ALGORITHMS = {1: "unigram", 2: "BPE", 3: "word", 4: "char"}
BPE = 2
FILE_NAME = "tokenizer.model"
LARGEST_FILE = 8 * 1024**2
KINDS = {int(kind): kind for kind in Kind}


def read(path: Path) -> SentencePieceModel:
    """Read a `tokenizer.model` file.

    Raises FileNotFoundError if there is none, TokenizerFileError if it cannot be used.
    """
    if not path.is_file():
        other = path.with_name("tokenizer.json")
        beside = f" ({other.name}, which lies there, is not read)" if other.is_file() else ""
        raise FileNotFoundError(
            f"no tokenizer file at {path}; expected a {FILE_NAME}{beside}: put the one that was "
            "released with the model there"
        )
    try:
        with path.open("rb") as file:  # A byte too many is enough to know.
            return parse(file.read(LARGEST_FILE + 1))
    except TokenizerFileError as error:
        raise TokenizerFileError(f"{path}: {error}") from error


def parse(data: bytes) -> SentencePieceModel:
    """Read the bytes of a `tokenizer.model` file.

    Raises TokenizerFileError, saying why, if they are damaged or ask for another algorithm.

    >>> parse(serialise(SentencePieceModel((Piece("<unk>", 0.0, Kind.UNKNOWN),), False))).bos
    '<s>'
    """
    if len(data) > LARGEST_FILE:
        raise TokenizerFileError(
            f"it has more than the {LARGEST_FILE} bytes that a tokenizer.model may have; "
            "give the tokenizer.model, not the weights"
        )
    if data.startswith(b"version https://git-lfs"):
        raise TokenizerFileError(
            "this is a Git LFS pointer, not the file it points to; run `git lfs pull` beside it"
        )
    pieces: list[Piece] = []
    settings: dict[int, dict[int, Read]] = {}
    for number, value in read_fields(data):
        if number == PIECE:
            pieces.append(_parse_piece(len(pieces), value))
        elif number in (TRAINER, NORMALIZER, DENORMALIZER):
            found = read_fields(_payload(value, f"settings {number}"))
            settings.setdefault(number, {}).update(found)
    if TRAINER not in settings or NORMALIZER not in settings:
        raise damaged("it ends before its trainer and normalizer settings")
    _refuse_what_we_do_not_do(settings)
    trainer, normalizer = settings[TRAINER], settings[NORMALIZER]
    return SentencePieceModel(
        pieces=tuple(pieces),
        byte_fallback=bool(_number(trainer.get(35, 0), "byte_fallback")),
        add_dummy_prefix=bool(_number(normalizer.get(3, 1), "add_dummy_prefix")),
        remove_extra_whitespaces=bool(_number(normalizer.get(4, 1), "remove_extra_whitespaces")),
        unknown_surface=_text(trainer.get(44, UNKNOWN_SURFACE.encode()), "the unknown surface"),
        bos=_text(trainer.get(46, b"<s>"), "the name of the bos piece"),
        eos=_text(trainer.get(47, b"</s>"), "the name of the eos piece"),
        pad=_text(trainer.get(48, b"<pad>"), "the name of the pad piece"),
    )


@functools.cache
def mistral_v1() -> SentencePieceModel:
    """Read the file of Mistral-7B-v0.1 out of the installed `mistral-common` package.

    >>> len(mistral_v1().pieces)
    32000
    """
    return parse((resources.files("mistral_common") / "data" / "tokenizer.model.v1").read_bytes())


def serialise(model: SentencePieceModel) -> bytes:
    """Write a model as the bytes of a `tokenizer.model` file, which SentencePiece loads too.

    >>> serialise(SentencePieceModel((Piece("<unk>", 0.0, Kind.UNKNOWN),), False))[:9]
    b'\\n\\x0e\\n\\x05<unk>'
    """
    trainer: dict[int, Value] = {3: BPE, 4: len(model.pieces), 35: model.byte_fallback}
    trainer |= {44: model.unknown_surface, 46: model.bos, 47: model.eos, 48: model.pad}
    normalizer: dict[int, Value] = {1: "identity", 3: model.add_dummy_prefix}
    normalizer |= {4: model.remove_extra_whitespaces}
    pieces = (_message({1: text, 2: float(score), 3: kind}) for text, score, kind in model.pieces)
    return b"".join(write_field(PIECE, piece) for piece in pieces) + _message(
        {TRAINER: _message(trainer), NORMALIZER: _message(normalizer)}
    )


def _message(values: Mapping[int, Value]) -> bytes:
    return b"".join(write_field(number, value) for number, value in values.items())


def _parse_piece(index: int, data: Read) -> Piece:
    values = dict(read_fields(_payload(data, f"piece {index}")))
    score, kind = values.get(2, 0.0), values.get(3, 1)
    if not isinstance(score, float) or not isinstance(kind, int) or kind not in KINDS:
        raise damaged(f"piece {index} has score {score!r} and kind {kind!r}, expected a float, 1-6")
    text = _text(values.get(1, b""), f"piece {index}")
    if not text:  # Refused here, before a file of nothing else has filled the memory.
        raise damaged(f"piece {index} is empty")
    return Piece(text, score, KINDS[kind])


def _payload(value: Read, what: str) -> bytes:
    if not isinstance(value, bytes):
        raise damaged(f"{what} is the number {value}, expected text or a message")
    return value


def _text(value: Read, what: str) -> str:
    try:
        return _payload(value, what).decode()
    except UnicodeDecodeError as error:
        raise damaged(f"{what} is {value!r}, expected UTF-8 text") from error


def _number(value: Read, what: str) -> int:
    if not isinstance(value, int):
        raise damaged(f"{what} is {value!r}, expected a whole number")
    return value


def _refuse_what_we_do_not_do(settings: dict[int, dict[int, Read]]) -> None:
    trainer, normalizer = settings[TRAINER], settings[NORMALIZER]
    denormalizer = settings.get(DENORMALIZER, {})
    algorithm = _number(trainer.get(3, 1), "the algorithm")
    if algorithm != BPE:
        name = ALGORITHMS.get(algorithm, repr(algorithm))
        wanted = f"its algorithm is {name}, expected BPE"
    elif normalizer.get(2) or denormalizer.get(2):
        wanted = f"its normalizer {normalizer.get(1, b'')!r} rewrites text, expected b'identity'"
    elif trainer.get(24) or not normalizer.get(5, True):
        wanted = "it keeps spaces at the end of pieces or unescaped, expected ▁ in front"
    else:
        return
    raise TokenizerFileError(
        f"cannot use this tokenizer.model: {wanted}; load it with the sentencepiece package"
    )

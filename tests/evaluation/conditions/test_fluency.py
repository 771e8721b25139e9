"""Perplexity of generated texts: the white space that the model wrote is the white space that is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from neva_tl.evaluation.conditions.fluency import fluency

PROMPT = "the old king"
#: What the text is, and what stands between prompt and text.
TEXTS = [
    (" counts his coins", ""),
    ("\ncounts  his\n\ncoins ", ""),
    ("  two spaces first", ""),
    ("\tcounts\this", ""),
    (", who counts", " "),
    ("counts his coins\n", " "),
]


@pytest.mark.parametrize(("text", "between"), TEXTS)
def test_perplexity_is_of_the_exact_text(
    loaded: dict[str, Any], folders: dict[str, Path], text: str, between: str
) -> None:
    hf = AutoModelForCausalLM.from_pretrained(folders["llama"], dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folders["llama"])
    lead = PROMPT + between
    encoded = tokenizer(lead + text, return_offsets_mapping=True)
    ids = torch.tensor([encoded["input_ids"]])
    answer = [i for i, (start, end) in enumerate(encoded["offset_mapping"]) if end > len(lead) and end > start]
    with torch.no_grad():
        logprob = hf(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
    own = float(torch.exp(-logprob[[i - 1 for i in answer]].mean()))
    table = pd.DataFrame({"prompt": [PROMPT], "text": [text], "valid": [True]})
    for generations, options in ((table, {}), ([text], {"prompts": [PROMPT]})):
        measured = fluency(generations, loaded["llama"], **options)
        assert measured["perplexity"] == pytest.approx(own, rel=1e-4)
        assert measured["words"] == len(text.split())


def test_other_white_space_is_another_text(loaded: dict[str, Any]) -> None:
    perplexities = [
        fluency([text], loaded["llama"], prompts=[PROMPT])["perplexity"]
        for text in (" counts his coins", "\ncounts his coins", "  counts his coins", " counts  his coins")
    ]
    assert len(np.unique(np.round(perplexities, 6))) == 4

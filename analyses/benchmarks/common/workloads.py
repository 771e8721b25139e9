"""Models and texts of the collecting benchmark, as files that all methods read."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.core.errors import InputError

#: Tokens of each text in the workload of equal lengths.
EQUAL = 64
#: Shortest and longest of the ragged texts, in tokens.
SHORTEST, LONGEST = 8, 200


@dataclass(frozen=True)
class Workload:
    """A model and its texts.

    Attributes:
        model: `gpt2` (the shape of GPT-2, 124 M), `small` (three layers of it), `llama` (gated, grouped-query), all with random
            weights; `smollm2`.
        texts: `ragged` (ValueEval premises) or `equal` (64 tokens each).
        n: number of texts.
        folder: path of the checkpoint.
        texts_file: path of a JSON file with `texts` and `plus`.
        tokens: number of tokens of all texts.
    """

    model: str
    texts: str
    n: int
    folder: str
    texts_file: str
    tokens: int

    @property
    def name(self) -> str:
        """Name in the tables."""
        return f"{self.model}, {self.texts}, n = {self.n:,}"

    def read(self) -> tuple[list[str], np.ndarray]:
        """Return the texts, and a mask of the + pole."""
        content = json.loads(Path(self.texts_file).read_text())
        return content["texts"], np.asarray(content["plus"])


def checkpoint(name: str, folder: Path, corpus: Sequence[str]) -> str:
    """Write a random checkpoint, or locate SmolLM2's, and return its path."""
    import torch

    if name == "smollm2":
        from neva_tl.models.sources import resolve

        return str(resolve(name).path)
    target = folder / name
    if not (target / "tokenizer.json").exists():
        torch.manual_seed(0)
        shaped(name, vocab_size=32_000, bos_token_id=None, eos_token_id=0).save_pretrained(target)
        byte_pairs(corpus).save_pretrained(target)
    return str(target)


def shaped(name: str, **rest: Any) -> Any:
    """Make a random transformers model of a shape.

    Args:
        name: `gpt2` (124 M, 12 layers), `small` (3 layers of it) or `llama` (12 layers, gated, grouped-query).
        **rest: further settings of the configuration.

    Returns:
        The model with its LM head.
    """
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    if name in ("gpt2", "small"):
        return GPT2LMHeadModel(GPT2Config(n_layer=12 if name == "gpt2" else 3, **rest))
    config = LlamaConfig(
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=12,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        **rest,
    )
    return LlamaForCausalLM(config)


def byte_pairs(corpus: Sequence[str]) -> Any:
    """Learn a byte-pair encoding without BOS, so that all methods use the same tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=8000, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<end>", pad_token="<end>")


def premises(data: Path | None) -> pd.DataFrame:
    """Return texts, and whether annotators marked security in them.

    Args:
        data: folder with valueeval/; None makes ragged sentences of random words.

    Returns:
        Columns `text` and `plus`.
    """
    rng = np.random.default_rng(0)
    if data is None:
        words = [
            "water",
            "stone",
            "garden",
            "letter",
            "winter",
            "street",
            "music",
            "number",
            "window",
            "river",
            "table",
            "morning",
        ]
        sizes = np.exp(rng.normal(3.2, 0.7, 12_000)).clip(8, 150).astype(int)
        texts = [f"{i}: " + " ".join(rng.choice(words, size=n)) for i, n in enumerate(sizes)]
        return pd.DataFrame({"text": texts, "plus": rng.random(len(texts)) < 0.4})
    folder = data / "valueeval"
    splits = []
    for split in ("training", "validation", "test"):
        files = [folder / f"{kind}-{split}.tsv" for kind in ("arguments", "labels")]
        for file in files:
            if not file.exists():
                raise InputError(f"{file} does not exist: --data is the folder with valueeval/")
        arguments, labels = (pd.read_csv(file, sep="\t") for file in files)
        splits.append(arguments.merge(labels, on="Argument ID"))
    table = pd.concat(splits, ignore_index=True)
    security = [column for column in table.columns if column.startswith("Security")]
    plus = table[security].any(axis=1)
    # premises alone come first, then premises after their conclusions
    alone = pd.DataFrame({"text": table["Premise"], "plus": plus})
    longer = pd.DataFrame({"text": table["Conclusion"] + ", because " + table["Premise"], "plus": plus})
    for table in (alone, longer):
        table["text"] = table["text"].str.strip()  # the collector strips texts: all methods must use the same tokens
    both = (table.drop_duplicates("text").sample(frac=1.0, random_state=0) for table in (alone, longer))
    return pd.concat(both, ignore_index=True).drop_duplicates("text", ignore_index=True)


def workload(model: str, texts: str, n: int, data: Path | None, folder: Path) -> Workload:
    """Write the files of a workload.

    Args:
        model: See `Workload`.
        texts: See `Workload`.
        n: See `Workload`.
        data: folder with valueeval/, or None.
        folder: folder of checkpoints and texts.

    Returns:
        The workload.

    Raises:
        InputError: There are fewer texts than `n`.
    """
    table = premises(data)
    path = checkpoint(model, folder, table["text"].tolist()[:4000])
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    if texts == "equal":
        selected = _equal(tokenizer, n)
        plus = np.arange(n) % 2 == 0
    else:
        lengths = np.array(
            [len(ids) for ids in tokenizer(table["text"].tolist(), add_special_tokens=False)["input_ids"]]
        )
        fit = table[(lengths >= SHORTEST) & (lengths <= LONGEST)].head(n)
        if len(fit) < n:
            raise InputError(f"only {len(fit)} texts of {SHORTEST} to {LONGEST} tokens are available, {n} are needed")
        selected, plus = fit["text"].tolist(), fit["plus"].to_numpy()
    tokens = sum(len(ids) for ids in tokenizer(selected, add_special_tokens=False)["input_ids"])
    file = folder / f"{model}-{texts}-{n}.json"
    file.write_text(json.dumps({"texts": selected, "plus": plus.tolist()}))
    return Workload(model, texts, n, path, str(file), tokens)


def _equal(tokenizer: Any, n: int) -> list[str]:
    """Texts of one length, of words that are one token each after a space."""
    vocabulary = [t for t in tokenizer.get_vocab() if t.startswith("Ġ") and t[1:].isascii() and t[1:].isalpha()]
    words = [t[1:] for t in sorted(vocabulary)]
    rng = np.random.default_rng(0)
    texts: list[str] = []
    while len(texts) < n:
        drawn = [" " + " ".join(rng.choice(words, size=EQUAL)) for _ in range(math.ceil(1.2 * n))]
        # the collector strips texts: they must have the same length without their first space
        stripped = [text.strip() for text in drawn]
        ids = tokenizer(stripped, add_special_tokens=False)["input_ids"]
        texts += [text for text, i in zip(stripped, ids, strict=True) if len(i) == EQUAL]
    return list(dict.fromkeys(texts))[:n]

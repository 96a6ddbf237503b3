"""The word-level tokenizer of the miniature, as files that `transformers.AutoTokenizer` loads as they are."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, processors

from jaxmerge.demo.world import WORDS

PAD, BOS, EOS, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
SPECIAL = (PAD, BOS, EOS, UNKNOWN)
VOCABULARY = {word: index for index, word in enumerate((*SPECIAL, *WORDS))}


def build() -> Tokenizer:
    """Splits at white space, one token a word, `<s>` in front."""
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, VOCABULARY[BOS])]
    )
    return tokenizer


def write(folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json into an existing folder."""
    build().save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "bos_token": BOS,
        "eos_token": EOS,
        "unk_token": UNKNOWN,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 64,
        "padding_side": "left",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

"""Chat templates that recipes ask for."""

import json
from pathlib import Path

import jinja2
import pytest

from jaxmerge.errors import InputError
from jaxmerge.tokens.chat_template import NAMED, choose_chat_template, read_chat_template, write_chat_template

TALK = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "U"},
    {"role": "assistant", "content": "A"},
    {"role": "user", "content": "V"},
]
SAID = {
    "chatml": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    "<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nU<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nV<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral": "<s>[INST] S\n\nU [/INST] A</s>[INST] V [/INST]",
    "alpaca": "S\n\n### Instruction:\nU\n\n### Response:\nA</s>\n\n### Instruction:\nV\n\n### Response:\n",
    "exaone": "[|system|]S[|endofturn|]\n[|user|]U\n[|assistant|]A[|endofturn|]\n[|user|]V\n[|assistant|]",
}


def test_every_named_template_is_tested() -> None:
    assert {file.stem for file in NAMED.glob("*.jinja")} == SAID.keys()


@pytest.mark.parametrize("name", SAID)
def test_named_templates_write_their_format(name: str) -> None:
    text = choose_chat_template(name, [])
    assert text is not None
    # The environment that transformers renders templates in.
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(text)
    assert template.render(messages=TALK, add_generation_prompt=True, bos_token="<s>", eos_token="</s>") == SAID[name]


def folder(path: Path, template: object) -> Path:
    path.mkdir()
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, "eos_token": "</s>"}))
    return path


def test_auto_is_what_most_models_have(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", "{{ 1 }}"), folder(tmp_path / "b", [{"name": "default", "template": "{{ 2 }}"}])
    (tmp_path / "c").mkdir()
    write_chat_template(tmp_path / "c", "{{ 2 }}")
    assert choose_chat_template("auto", [a, b, tmp_path / "c"]) == "{{ 2 }}"
    assert choose_chat_template("auto", [a, b]) == "{{ 1 }}"
    (tmp_path / "none").mkdir()
    assert choose_chat_template("auto", [tmp_path / "none"]) is None


def test_a_written_template_replaces_the_one_in_the_config(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", "{{ 1 }}")
    write_chat_template(a, "{{ 3 }}")
    assert read_chat_template(a) == "{{ 3 }}"
    assert json.loads((a / "tokenizer_config.json").read_text()) == {"eos_token": "</s>"}


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match="unknown chat template 'chatlm'; did you mean 'chatml'"):
        choose_chat_template("chatlm", [])

"""The shapes of recipe that mergekit's users write, each over tiny models: read, planned, and what a tensor gets."""

from collections.abc import Callable
from typing import Any

import pytest

from jaxmerge.recipe.plan import Plan

LAYER = "model.layers.{}.{}.weight"
FIRST_MLP, LAST_MLP = LAYER.format(0, "mlp.up_proj"), LAYER.format(5, "mlp.up_proj")
FIRST_Q, LAST_Q = LAYER.format(0, "self_attn.q_proj"), LAYER.format(5, "self_attn.q_proj")

EXAMPLES: dict[str, tuple[str, dict[tuple[str, str], Any]]] = {
    "ties with gradients and filters": (
        """
models:
  - model: inputs/ft1
    parameters:
      density: [1, 0.7, 0.1]
      weight: 1.0
  - model: inputs/ft2
    parameters:
      density: 0.5
      weight: [0, 0.3, 0.7, 1]
  - model: inputs/ft3
    parameters:
      density: 0.33
      weight:
        - filter: mlp
          value: 0.5
        - value: 0
merge_method: ties
base_model: inputs/base
parameters:
  normalize: true
  int8_mask: true
dtype: float16
""",
        {
            (FIRST_MLP, "weight"): [1, 0, 0.5],
            (LAST_Q, "weight"): [1, 1, 0],
            (LAST_Q, "density"): [0.1, 0.5, 0.33],
            (FIRST_Q, "normalize"): 1,
        },
    ),
    "dare_ties over a base among the models": (
        """
models:
  - model: inputs/base
    # No parameters necessary for the base.
  - model: inputs/ft1
    parameters: {density: 0.53, weight: 0.4}
  - model: inputs/ft2
    parameters: {density: 0.53, weight: 0.3}
merge_method: dare_ties
base_model: inputs/base
parameters:
  int8_mask: true
dtype: bfloat16
""",
        {(FIRST_Q, "weight"): [0.4, 0.3], (FIRST_Q, "rescale"): 1},
    ),
    "slerp by gradients of attention and mlp": (
        """
slices:
  - sources:
      - model: inputs/ft1
        layer_range: [0, 6]
      - model: inputs/ft2
        layer_range: [0, 6]
merge_method: slerp
base_model: inputs/ft1
parameters:
  t:
    - filter: self_attn
      value: [0, 0.5, 0.3, 0.7, 1]
    - filter: mlp
      value: [1, 0.5, 0.7, 0.3, 0]
    - value: 0.5 # what is left
dtype: bfloat16
""",
        {(FIRST_Q, "t"): 0, (LAST_Q, "t"): 1, (FIRST_MLP, "t"): 1, (LAST_MLP, "t"): 0, ("lm_head.weight", "t"): 0.5},
    ),
    "linear": (
        """
models:
  - {model: inputs/ft1, parameters: {weight: 1.0}}
  - {model: inputs/ft2, parameters: {weight: 0.3}}
  - {model: inputs/ft3, parameters: {weight: 0.5}}
merge_method: linear
dtype: torch.float16
""",
        {(FIRST_Q, "weight"): [1, 0.3, 0.5], (FIRST_Q, "normalize"): 1},
    ),
    "passthrough, a taller model of two": (
        """
merge_method: passthrough
slices:
- sources:
  - model: inputs/ft1
    layer_range: [0, 4]
- sources:
  - model: inputs/ft2
    layer_range: [2, 6]
dtype: float16
""",
        {(LAYER.format(7, "mlp.up_proj"), "scale"): [1]},
    ),
    "passthrough with layers again whose outputs add nothing": (
        """
slices:
  - sources: [{model: inputs/ft1, layer_range: [0, 4]}]
  - sources:
      - model: inputs/ft1
        layer_range: [2, 4]
        parameters:
          scale:
            - {filter: o_proj, value: 0.0}
            - {filter: down_proj, value: 0.0}
            - value: 1.0
    residual_weight: 1.0
  - sources: [{model: inputs/ft1, layer_range: [4, 6]}]
merge_method: passthrough
dtype: bfloat16
""",
        {
            (LAYER.format(4, "self_attn.o_proj"), "scale"): [0],
            (LAYER.format(5, "mlp.down_proj"), "scale"): [0],
            (LAYER.format(5, "mlp.up_proj"), "scale"): [1],
            (LAYER.format(6, "self_attn.o_proj"), "scale"): [1],
        },
    ),
    "model_stock": (
        "models: [{model: inputs/ft1}, {model: inputs/ft2}, {model: inputs/ft3}]\n"
        "base_model: inputs/base\nmerge_method: model_stock\nparameters: {filter_wise: false}\ndtype: bfloat16",
        {(FIRST_Q, "filter_wise"): 0},
    ),
    "nuslerp on task vectors": (
        """
merge_method: nuslerp
base_model: inputs/base
models:
- {model: inputs/ft1, parameters: {weight: [0.2, 0.8]}}
- {model: inputs/ft2, parameters: {weight: 0.5}}
parameters: {nuslerp_row_wise: false, nuslerp_flatten: false}
""",
        {(LAST_Q, "weight"): [0.8, 0.5], (LAST_Q, "nuslerp_flatten"): 0},
    ),
    "della": (
        """
models:
  - {model: inputs/ft1, parameters: {weight: 0.5, density: 0.6, epsilon: 0.1}}
  - {model: inputs/ft2, parameters: {weight: 0.5, density: 0.4}}
merge_method: della
base_model: inputs/base
parameters: {normalize: false, lambda: 1.1}
""",
        {(FIRST_Q, "epsilon"): [0.1, 0.15], (FIRST_Q, "lambda"): 1.1, (FIRST_Q, "normalize"): 0},
    ),
    "breadcrumbs with an explicit mapping for a base": (
        """
merge_method: breadcrumbs_ties
base_model: {model: {path: inputs/base}, override_architecture: LlamaForCausalLM}
models:
  - {model: inputs/ft1, parameters: {weight: 0.5, density: 0.9, gamma: 0.01}}
  - {model: inputs/ft2, parameters: {weight: 0.5, density: 0.9, gamma: 0.02}}
""",
        {(FIRST_Q, "gamma"): [0.01, 0.02]},
    ),
    "sce": (
        "merge_method: sce\nbase_model: inputs/base\nparameters: {select_topk: [0.1, 0.5]}\n"
        "models: [{model: inputs/ft1}, {model: inputs/ft2}, {model: inputs/base}]",
        {(FIRST_Q, "select_topk"): 0.1, (LAST_Q, "select_topk"): 0.5},
    ),
    "task_arithmetic that takes a task away": (
        """
merge_method: task_arithmetic
base_model: inputs/base
models:
  - {model: inputs/ft1, parameters: {weight: 1}}
  - {model: inputs/ft2, parameters: {weight: -0.5}}
parameters:
""",
        {(FIRST_Q, "weight"): [1, -0.5], (FIRST_Q, "normalize"): 0},
    ),
    "slices with a base and parameters of their own": (
        """
merge_method: ties
base_model: inputs/base
slices:
  - sources:
      - {model: inputs/base, layer_range: [0, 3]}
      - {model: inputs/ft1, layer_range: [0, 3], parameters: {weight: 0.25}}
    parameters: {normalize: false}
  - base_model: inputs/ft3
    sources:
      - {model: inputs/ft3, layer_range: [3, 6]}
      - {model: inputs/ft2, layer_range: [3, 6]}
parameters: {weight: 0.75, density: 0.5}
out_dtype: bfloat16
""",
        {
            (FIRST_Q, "weight"): [0.25],
            (FIRST_Q, "normalize"): 0,
            (LAST_Q, "weight"): [0.75],
            (LAST_Q, "normalize"): 1,
        },
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_recipe_is_planned(plan: Callable[[str], Plan], name: str) -> None:
    text, expected = EXAMPLES[name]
    planned = plan(text)
    params = {tensor.name: tensor.params for tensor in planned.tensors}
    for (tensor, parameter), value in expected.items():
        assert params[tensor][parameter].tolist() == value
    asked = planned.recipe.out_dtype or planned.recipe.dtype
    assert {str(tensor.dtype) for tensor in planned.tensors} == {asked or "float32"}


TOKENS = """
merge_method: linear
models:
  - {model: inputs_tok/ftA, parameters: {weight: 1}}
  - {model: inputs_tok/ftB, parameters: {weight: 1}}
"""


@pytest.mark.parametrize(
    ("wanted", "size"),
    [
        ("tokenizer_source: union", None),
        ("tokenizer_source: model:inputs_tok/ftB", None),
        ("tokenizer: {source: inputs_tok/ftB, tokens: }", None),
        ("tokenizer: {source: union, pad_to_multiple_of: 64, tokens: {<new>: {source: {kind: zero}}}}", 128),
        (
            "tokenizer: {tokens: {a: {source: {kind: model_token, model: inputs_tok/ftA, token_id: 1}, force: true}, "
            "w0: {source: {model: {path: inputs_tok/ftA}}}}}",
            None,
        ),
    ],
)
def test_a_tokenizer_is_planned(plan: Callable[[str], Plan], wanted: str, size: int | None) -> None:
    planned = plan(TOKENS + wanted + "\nchat_template: chatml\n")
    vocabulary = planned.vocabulary
    assert vocabulary is not None and planned.chat_template is not None and "im_start" in planned.chat_template
    assert planned.config["vocab_size"] == vocabulary.size == (vocabulary.size if size is None else size)
    embedding = next(tensor for tensor in planned.tensors if "embed_tokens" in tensor.name)
    assert embedding.shape[0] == vocabulary.size >= vocabulary.vocabulary.size

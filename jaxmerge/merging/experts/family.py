"""What mixtures of experts call their tensors and the keys of their config.json, in transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.windows import FULL, SLIDING

MLP = ("gate_proj", "up_proj", "down_proj")
SHARED = {name: f"mlp.shared_expert.{name}.weight" for name in MLP}
SHARED_ROUTER = "mlp.shared_expert_gate.weight"


@dataclass(frozen=True)
class Family:
    """sources: the `model_type` of dense models that it is made of. router, experts: names within a layer, those of the
    matrices of an expert by the dense model's, with `{expert}` for its place. shared: whether it has an expert for all
    tokens."""

    model_type: str
    architecture: str
    sources: tuple[str, ...]
    router: str
    experts: dict[str, str]
    shared: bool = False

    def config(
        self, base: dict[str, Any], sizes: DecoderConfig, experts: int, per_token: int, widths: Sequence[int]
    ) -> dict[str, Any]:
        """config.json of a mixture on the dense model `base`. The families take other things for granted, so all that
        the forward pass depends on is written out. The gates of the chosen experts sum to 1. widths: intermediate size
        of experts, and of the shared one."""
        changed = {key: value for key, value in base.items() if key != "auto_map"} | {
            "architectures": [self.architecture],
            "model_type": self.model_type,
            "hidden_act": sizes.activation,
            "head_dim": sizes.head_dim,
            "num_key_value_heads": sizes.num_kv_heads,
            "max_position_embeddings": sizes.max_positions,
            "rms_norm_eps": sizes.norm_eps,
            "tie_word_embeddings": sizes.tie_embeddings,
            "num_experts_per_tok": per_token,
            "output_router_logits": False,
            "router_aux_loss_coef": 0.001,
        }
        if base.get("rope_theta") is None and "rope_theta" not in (base.get("rope_parameters") or {}):
            changed["rope_theta"] = sizes.rope.theta
        if self.model_type == "mixtral":
            own = {"num_local_experts": experts, "intermediate_size": widths[0], "sliding_window": sizes.windows[0]}
            return changed | own
        changed |= {
            "num_experts": experts,
            "moe_intermediate_size": widths[0],
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "use_sliding_window": any(sizes.windows),
        }
        if not self.shared:
            return changed
        kinds = [FULL if window is None else SLIDING for window in sizes.windows]
        return changed | {"shared_expert_intermediate_size": widths[1], "layer_types": kinds}


_QWEN = {name: f"mlp.experts.{{expert}}.{name}.weight" for name in MLP}
_MIXTRAL = {
    name: f"block_sparse_moe.experts.{{expert}}.{short}.weight"
    for name, short in zip(MLP, ("w1", "w3", "w2"), strict=True)
}
FAMILIES = {
    "mixtral": Family(
        "mixtral", "MixtralForCausalLM", ("llama", "mistral"), "block_sparse_moe.gate.weight", _MIXTRAL
    ),
    "qwen": Family("qwen2_moe", "Qwen2MoeForCausalLM", ("qwen2",), "mlp.gate.weight", _QWEN, shared=True),
    "qwen3": Family("qwen3_moe", "Qwen3MoeForCausalLM", ("qwen3",), "mlp.gate.weight", _QWEN),
}

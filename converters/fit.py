"""Whether a checkpoint's tensors are those of its architecture's table."""

import re

import ml_dtypes
import numpy as np

from jaxmerge.architectures.table import Table
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.errors import CheckpointError

FLOATS = (np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16), np.dtype(np.float32))
# Tables of constants that old versions of transformers saved with the weights; the config determines them.
BUFFERS = re.compile(r"rotary_emb\.(inv_freq|cos_cached|sin_cached)$")
EMBEDDING, HEAD = "embed_tokens.weight", "lm_head.weight"
BLOCK_BYTES = 1 << 26


def require_fit(checkpoint: Checkpoint, table: Table) -> None:
    """Raise CheckpointError naming the first tensor that is missing, extra, of a wrong shape, of a dtype that
    is not BF16, F16 or F32, or of another dtype than the same tensor of the first layer. Reads headers only,
    and the head where the embeddings are tied but a head is there all the same: it must equal the embedding,
    and is not loaded."""
    folder = checkpoint.folder
    if "quantization_config" in checkpoint.config:
        raise CheckpointError(f"{folder}: is quantised; save it without quantization, in BF16, F16 or F32")
    for parameter in table:
        names = parameter.names(table.num_layers)
        for name in names:
            info = checkpoint.info(name)
            if info.shape != parameter.shape:
                raise CheckpointError(
                    f"{info.file}: tensor '{name}' is {list(info.shape)} but config.json makes it "
                    f"{list(parameter.shape)}; check that config.json belongs to these weights"
                )
            if info.dtype not in FLOATS:
                raise CheckpointError(f"{info.file}: tensor '{name}' is {info.dtype}; save it in BF16, F16 or F32")
            if info.dtype != checkpoint.info(names[0]).dtype:
                raise CheckpointError(
                    f"{info.file}: tensor '{name}' is {info.dtype} but '{names[0]}' is "
                    f"{checkpoint.info(names[0]).dtype}; save all layers in one dtype"
                )
    known = set(table.names())
    extra = [name for name in checkpoint.tensors if name not in known and not BUFFERS.search(name)]
    if HEAD in extra and not any(parameter.path == HEAD for parameter in table):
        _require_tied(checkpoint, table[EMBEDDING].hf)
        extra.remove(HEAD)
    if extra:
        raise CheckpointError(
            f"{checkpoint.tensors[extra[0]].file}: tensor '{extra[0]}' is not a part of this architecture"
            f"{f' ({len(extra)} such tensors)' if len(extra) > 1 else ''}; check that config.json belongs to "
            "these weights"
        )


def _require_tied(checkpoint: Checkpoint, embedding: str) -> None:
    """The head must equal the embedding, bit for bit."""
    head, other = checkpoint.info(HEAD), checkpoint.info(embedding)
    equal = (head.shape, head.dtype) == (other.shape, other.dtype)
    rows = max(1, BLOCK_BYTES // max(1, other.nbytes // max(1, other.shape[0])))
    for start in range(0, other.shape[0], rows):
        equal = equal and np.array_equal(
            checkpoint.read_rows(HEAD, start, start + rows).view(np.uint8),
            checkpoint.read_rows(embedding, start, start + rows).view(np.uint8),
        )
    if not equal:
        raise CheckpointError(
            f"{head.file}: tensor '{HEAD}' differs from '{embedding}' although config.json ties them; set "
            "tie_word_embeddings to false or remove the tensor"
        )

"""A Llama checkpoint as GGUF, and its logits by llama.cpp (through llama-cpp-py-sync, where that is installed)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def write_gguf(hf: Any, file: Path) -> Path:
    """Write a transformers Llama without its tokenizer.

    Args:
        hf: The model.
        file: The GGUF file.
    """
    from gguf import GGUFWriter

    config, weights = hf.config, {name: p.detach().float().numpy() for name, p in hf.state_dict().items()}
    writer: Any = GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("none")
    names = {
        "input_layernorm": "attn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    tensors = {
        "token_embd.weight": weights["model.embed_tokens.weight"],
        "output_norm.weight": weights["model.norm.weight"],
        "output.weight": weights["lm_head.weight"],
    }
    for name, array in weights.items():
        for theirs, own in names.items():
            for end in ("weight", "bias"):
                if name.endswith(f".{theirs}.{end}"):
                    count = heads.get(theirs.rpartition(".")[2])
                    tensors[f"blk.{name.split('.')[2]}.{own}.{end}"] = (
                        array if count is None else interleaved(array, count)
                    )
    for name, array in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(array, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def interleaved(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key projection in llama.cpp's order: rotated pairs lie side by side."""
    return array.reshape(heads, 2, -1, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def library() -> tuple[Any, Any]:
    """The C interface of llama.cpp; skips the test where there is none."""
    bindings = pytest.importorskip("llama_cpp_py_sync._cffi_bindings", reason="needs llama-cpp-py-sync (llama.cpp)")
    try:
        return bindings.ffi, bindings.get_lib()
    except RuntimeError as error:  # a build for a newer libc
        pytest.skip(f"llama.cpp does not load here: {error}")


def last_logits(file: Path, texts: list[list[int]], directions: Mapping[int, np.ndarray] | None = None) -> np.ndarray:
    """Logits after the last token of each text, `[text, vocab]`, without or with a control vector.

    Args:
        file: The GGUF file.
        texts: Token ids.
        directions: Layer -> direction.
    """
    ffi, lib = library()
    lib.llama_backend_init()
    options = lib.llama_model_default_params()
    options.n_gpu_layers = 0
    model = lib.llama_model_load_from_file(str(file).encode(), options)
    assert model != ffi.NULL, "llama.cpp cannot load the model"
    out = []
    for ids in texts:
        settings = lib.llama_context_default_params()
        settings.n_ctx, settings.n_threads, settings.n_threads_batch = 64, 1, 1
        settings.type_k = settings.type_v = 0  # float32
        settings.flash_attn_type = 0  # which would round keys and values
        context = lib.llama_init_from_model(model, settings)
        width = 0 if not directions else len(next(iter(directions.values())))
        if directions:
            # as common_control_vector_load lays them out: layer 1 first
            data = np.zeros((max(directions), width), dtype=np.float32)
            for layer, vector in directions.items():
                data[layer - 1] = vector
            pointer = ffi.cast("float *", ffi.from_buffer(data))
            status = lib.llama_set_adapter_cvec(context, pointer, data.size, width, 1, max(directions))
            assert status == 0, "llama.cpp refuses the control vector"
        tokens = ffi.new("llama_token[]", ids)
        assert lib.llama_decode(context, lib.llama_batch_get_one(tokens, len(ids))) == 0
        row = lib.llama_get_logits_ith(context, -1)
        size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
        out.append(np.frombuffer(ffi.buffer(row, 4 * size), dtype=np.float32).copy())
        lib.llama_free(context)
    lib.llama_model_free(model)
    return np.stack(out)

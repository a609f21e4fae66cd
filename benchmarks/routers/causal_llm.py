"""``causal_llm``: one pass over batches with a shared prefix, against generating six tokens per prompt; one run.

    python -m benchmarks.routers.causal_llm --json benchmarks/results/causal_llm.json         # Llama 3 8B's shape
    python -m benchmarks.routers.causal_llm --shape small --prompts 64                        # a quick look on a CPU

The weights are random and of the true shape; only time is measured, with the prompts' real lengths. The reference
generates six tokens greedily, one prompt at a time, without a key/value cache (its published setting) or, faster, with.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import transformers

from benchmarks.report import write_report
from benchmarks.routers.transformer_inputs import (
    clear_cache,
    load_prompts,
    matrix_flops_per_second,
    seconds,
    train_tokenizer,
)
from routellm_core.routers.transformer import causal_llm
from routellm_core.routers.transformer.batching import resolve_device, resolve_dtype
from routellm_core.routers.transformer.causal_llm import CausalLLMRouter

SHAPES = {
    "llama-3-8b": {
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_261,
    },
    "small": {
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 32_000,
    },
}
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
# About as long as the published system message.
SYSTEM = (
    "[Instruction]\nPredict, for the question below, the score from 1 to 5 that an expert would give to an assistant's "
    "answer, by helpfulness, relevance, accuracy, depth and detail. A higher score means that a better answer is "
    'expected. Answer in the form "[[predicted rating]]".\n\nCriteria:\n- 4-5: the assistant can give a very strong '
    "answer with deep understanding.\n- 3: the assistant can give an adequate answer of moderate detail.\n- 1-2: the "
    "assistant will struggle, as the question is difficult or vague, or beyond its abilities.\n"
)


def make_router(folder: Path, shape: str, prompts: list[str], options: dict[str, Any]) -> CausalLLMRouter:
    """Return a router over a model of random weights, which never touch the disk."""
    config = transformers.LlamaConfig(**SHAPES[shape], max_position_embeddings=8192, rope_theta=500_000.0)
    config.save_pretrained(folder)
    (folder / "system_ft_v5.txt").write_text(SYSTEM)
    (folder / "classifier_ft_v5.txt").write_text("[Question]\n{question}\n\nPrediction:\n")
    tokenizer = train_tokenizer([*prompts, SYSTEM], SPECIAL, "<|begin_of_text|> $A")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[1], model_max_length=8192
    ).save_pretrained(folder)
    device = resolve_device(options["device"])
    dtype = resolve_dtype(options["dtype"], device)
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    with torch.device(device):
        model = transformers.LlamaForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    with (
        patch.object(causal_llm, "load_model", return_value=model),
        patch.object(causal_llm, "weight_files", return_value=[]),
    ):
        # Random weights never write the header, so that exact=True would decode every prompt.
        return CausalLLMRouter(checkpoint_path=folder, exact=False, **options)


def generate_six(router: CausalLLMRouter, prompts: list[str], use_cache: bool) -> None:
    """Generate six tokens per prompt: the reference's way. What the random model writes is not looked at."""
    model = router._model.model
    for prompt in prompts:
        ids = torch.tensor(router._encode([prompt]), device=model.device)
        model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            min_new_tokens=6,
            max_new_tokens=6,
            do_sample=False,
            pad_token_id=router._tokenizer.eos_token_id,
            use_cache=use_cache,
            output_scores=True,
            return_dict_in_generate=True,
        )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="llama-3-8b")
    parser.add_argument("--prompts", type=int, default=512)
    parser.add_argument("--alone", type=int, default=32, help="how many of them to score one at a time")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--token-budgets", type=int, nargs="+", default=None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    prompts = load_prompts(arguments.prompts)
    few = prompts[: arguments.alone]
    with tempfile.TemporaryDirectory() as folder:
        options = {"device": arguments.device, "dtype": arguments.dtype}
        router = make_router(Path(folder), arguments.shape, prompts, options)
    model, device = router._model, router.device
    rate = matrix_flops_per_second(device, router.dtype)
    header, prefix = len(router._header), len(model.prefix)
    lengths = np.array([len(ids) for ids in router._encode(prompts)])
    computed = lengths - prefix + header  # tokens that must go through the model once the prefix is cached
    sizes = SHAPES[arguments.shape]
    weights = sum(weight.numel() for name, weight in model.model.named_parameters() if "layers" in name)
    head = 2 * sizes["hidden_size"] * sizes["vocab_size"] * (header + 1)
    attention = 2 * sizes["hidden_size"] * sizes["num_hidden_layers"] * computed * (2 * prefix + computed)
    flops = 2 * weights * computed + attention + head
    base = {"shape": arguments.shape, "device": str(device), "dtype": str(router.dtype).removeprefix("torch.")}

    def row(what: str, count: int, took: float) -> dict[str, Any]:
        return {
            **base,
            "what": what,
            "prompts": count,
            "ms a prompt": 1e3 * took / count,
            "prompt tokens/s": float(lengths[:count].sum() / took),
            "share of matrix rate": float(flops[:count].sum() / took / rate),
            "times faster": (published / len(few)) / (took / count),
        }

    published = seconds(lambda: generate_six(router, few, False), device, arguments.repeats)
    cached = seconds(lambda: generate_six(router, few, True), device, arguments.repeats)
    rows = [row("generate, as published", len(few), published), row("generate, cached", len(few), cached)]
    took = seconds(lambda: [router.score([prompt]) for prompt in few], device, arguments.repeats)
    rows.append(row("single pass, one at a time", len(few), took))
    for budget in arguments.token_budgets or ([8192, 32_768, 65_536] if device.type == "cuda" else [2048, 8192]):
        clear_cache(device)
        router._token_budget = budget
        took = seconds(lambda: router.score(prompts), device, arguments.repeats)
        rows.append(row(f"single pass, {budget} tokens", len(prompts), took))
    print(f"matrix rate {rate / 1e12:.3g} TFLOP/s; mean prompt {lengths.mean():.0f} tokens, {prefix} of them shared")
    write_report("causal_llm: single pass against generating", rows, arguments.json)


if __name__ == "__main__":
    main()

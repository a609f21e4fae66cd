"""``bert``: batched by token budget against one prompt at a time, on real prompts and one device, in one run.

    python -m benchmarks.routers.bert --json benchmarks/results/bert.json                     # XLM-RoBERTa-base
    python -m benchmarks.routers.bert --shape small --prompts 200                             # a quick look on a CPU

The weights are random and of the true shape; only time is measured. Both ways use the same model, device and dtype.
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
from routellm_core.routers.transformer import bert
from routellm_core.routers.transformer.batching import resolve_device, resolve_dtype
from routellm_core.routers.transformer.bert import BERTRouter, strong_win_rates

SHAPES = {
    "xlm-roberta-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 250_002},
    "small": {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 8192},
}


def make_router(folder: Path, shape: str, prompts: list[str], options: dict[str, Any]) -> BERTRouter:
    """Return a router over a model of random weights, which never touch the disk."""
    sizes = SHAPES[shape]
    config = transformers.XLMRobertaConfig(
        **sizes,
        intermediate_size=4 * sizes["hidden_size"],
        max_position_embeddings=514,
        num_labels=3,
        pad_token_id=1,
    )
    config.save_pretrained(folder)
    (folder / "model.safetensors").touch()
    tokenizer = train_tokenizer(prompts, ["<s>", "<pad>", "</s>", "<unk>"], "<s> $A </s>")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", cls_token="<s>", sep_token="</s>", model_max_length=512
    ).save_pretrained(folder)
    device = resolve_device(options["device"])
    torch.manual_seed(0)
    model = transformers.XLMRobertaForSequenceClassification(config)
    model = model.to(device=device, dtype=resolve_dtype(options["dtype"], device)).eval()
    with patch.object(bert, "load_model", return_value=model), patch.object(bert, "weight_files", return_value=[]):
        return BERTRouter(checkpoint_path=folder, **options)


def one_at_a_time(router: BERTRouter, prompts: list[str]) -> list[float]:
    """Tokenise, run and read one prompt after the other: the reference's way."""
    scores = []
    for prompt in prompts:
        inputs = router._tokenizer(prompt, return_tensors="pt", padding=True, truncation=True).to(router.device)
        with torch.no_grad():
            scores.append(float(strong_win_rates(router._model(**inputs).logits.float().cpu().numpy())[0]))
    return scores


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="xlm-roberta-base")
    parser.add_argument("--prompts", type=int, default=2048)
    parser.add_argument("--alone", type=int, default=128, help="how many of them to score one at a time")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--token-budgets", type=int, nargs="+", default=None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    prompts = load_prompts(arguments.prompts)
    few = prompts[: arguments.alone]
    options = {"device": arguments.device, "dtype": arguments.dtype}
    with tempfile.TemporaryDirectory() as folder:
        router = make_router(Path(folder), arguments.shape, prompts, options)
    device = router.device
    rate = matrix_flops_per_second(device, router.dtype)
    lengths = np.array([len(ids) for ids in router._tokenizer(prompts, truncation=True, max_length=512)["input_ids"]])
    sizes = SHAPES[arguments.shape]
    # 2 operations per weight and token, and 4·length·hidden per token and layer for attention.
    weights = 12 * sizes["hidden_size"] ** 2 * sizes["num_hidden_layers"]
    attention = 4 * sizes["hidden_size"] * sizes["num_hidden_layers"] * lengths**2
    flops = 2 * weights * lengths + attention
    alone = seconds(lambda: one_at_a_time(router, few), device, arguments.repeats)
    difference = np.abs(router.score(few) - one_at_a_time(router, few)).max()
    base = {"shape": arguments.shape, "device": str(device), "dtype": str(router.dtype).removeprefix("torch.")}

    def row(what: str, count: int, took: float) -> dict[str, Any]:
        return {
            **base,
            "what": what,
            "prompts": count,
            "ms a prompt": 1e3 * took / count,
            "tokens/s": float(lengths[:count].sum() / took),
            "share of matrix rate": float(flops[:count].sum() / took / rate),
            "times faster": (alone / len(few)) / (took / count),
            "max |Δscore|": float(difference),
        }

    rows = [row("one at a time", len(few), alone)]
    for budget in arguments.token_budgets or (
        [8192, 32_768, 65_536, 131_072] if device.type == "cuda" else [1024, 4096]
    ):
        clear_cache(device)
        router._token_budget = budget
        took = seconds(lambda: router.score(prompts), device, arguments.repeats)
        rows.append(row(f"batched, {budget} tokens", len(prompts), took))
    print(f"matrix rate {rate / 1e12:.3g} TFLOP/s; mean prompt {lengths.mean():.0f} tokens")
    write_report("bert: batched against one at a time", rows, arguments.json)


if __name__ == "__main__":
    main()

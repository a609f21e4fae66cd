"""One forward pass of a causal language model over many prompts that begin alike."""

from __future__ import annotations

import copy
import inspect
import logging
import threading
from collections.abc import Sequence
from typing import Any

from routellm_core.routers.transformer.batching import torch
from routellm_core.routers.transformer.loading import transformers

__all__ = ["PrefixedModel", "common_prefix", "last_logits"]

_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())


def common_prefix(first: Sequence[int], second: Sequence[int]) -> list[int]:
    """Return the tokens with which both sequences begin, leaving each at least one more."""
    length = 0
    for one, other in zip(first[:-1], second[:-1], strict=False):
        if one != other:
            break
        length += 1
    return list(first[:length])


def last_logits(
    model: Any, sequences: Sequence[Sequence[int]], *, count: int, pad_id: int, before: int = 0, **arguments: Any
) -> Any:
    """Return the logits at the last ``count`` positions of B sequences, shape (B, count, vocabulary), float32.

    The causal language model, called by one thread at a time, also takes ``arguments``, among them a cache that holds
    ``before`` tokens already. Rows are filled up with ``pad_id``.
    """
    device = model.device
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    widest = int(lengths.max())
    # Padding goes to the right: causal attention never looks there, whatever the model's kind of positions.
    ids = torch.tensor([[*sequence, *[pad_id] * (widest - len(sequence))] for sequence in sequences])
    mask = torch.arange(before + widest)[None, :] < before + lengths[:, None]
    positions = torch.arange(before, before + widest)[None, :].expand(len(ids), -1)
    wanted = (lengths[:, None] - count + torch.arange(count)[None, :]).to(device)
    return _logits_at(
        model,
        wanted,
        input_ids=ids.to(device),
        attention_mask=mask.long().to(device),
        position_ids=positions.to(device),
        **arguments,
    ).float()


def _logits_at(model: Any, wanted: Any, **arguments: Any) -> Any:
    """Run the model with the output layer applied at the ``wanted`` positions, shape (B, count), only.

    Over a vocabulary of 128,000, logits at every position would take more memory than the rest of the pass. A hook
    before the output layer works for every architecture, also those that scale or cap the logits afterwards.
    """
    rows = torch.arange(len(wanted), device=wanted.device)[:, None]
    head = model.get_output_embeddings()
    if head is None:
        return model(**arguments).logits[rows, wanted]

    def pick(_layer: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0][rows, wanted], *inputs[1:])

    handle = head.register_forward_pre_hook(pick)
    try:
        return model(**arguments).logits
    finally:
        handle.remove()


def _cache_parameter(model: Any) -> str:
    """Return what the model's forward pass calls the cache: transformers 5.24 renamed it, 5.40 drops the old name."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


class PrefixedModel:
    """A causal language model, in evaluation mode, that keeps the key/value cache of a prefix, empty for none."""

    def __init__(self, model: Any, prefix: Sequence[int], pad_id: int) -> None:
        self.model, self.prefix, self._pad_id = model, list(prefix), pad_id
        # The hook below is the model's state for the time of a call; a device runs one call at a time anyway.
        self._calling = threading.Lock()
        self._cache = self._prefix_cache()

    def last_logits(self, sequences: Sequence[Sequence[int]], *, count: int, prefixed: bool) -> Any:
        """See :func:`last_logits`; if ``prefixed``, the sequences continue the prefix and are given without it."""
        before = len(self.prefix) if prefixed else 0
        with self._calling, torch.inference_mode():
            cache = self._cache_arguments(len(sequences), prefixed)
            return last_logits(self.model, sequences, count=count, pad_id=self._pad_id, before=before, **cache)

    def _cache_arguments(self, batch: int, prefixed: bool) -> dict[str, Any]:
        if not prefixed:
            return {"use_cache": False}
        cache = copy.deepcopy(self._cache)
        cache.batch_repeat_interleave(batch)
        return {_cache_parameter(self.model): cache, "use_cache": True}

    def _prefix_cache(self) -> Any:
        if not self.prefix:
            return None
        try:
            with torch.inference_mode():
                cache = transformers.DynamicCache(config=self.model.config)
                ids = torch.tensor([self.prefix], device=self.model.device)
                self.model(input_ids=ids, use_cache=True, **{_cache_parameter(self.model): cache})
            if cache.get_seq_length() != len(self.prefix):
                raise ValueError(f"the cache holds {cache.get_seq_length()} of {len(self.prefix)} tokens")
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            # State-space and other models without a key/value cache read the prefix with every prompt instead.
            _log.warning("the shared prefix cannot be cached for %s: %s", type(self.model).__name__, error)
            self.prefix = []
            return None
        return cache

    def generate(self, sequence: Sequence[int], *, max_new_tokens: int) -> tuple[list[int], list[Any]]:
        """Decode a whole prompt greedily into tokens, and for each the logits it was chosen by, shape (vocabulary,)."""
        ids = torch.tensor([list(sequence)], device=self.model.device)
        with self._calling, torch.inference_mode():
            output = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=self._pad_id,
                output_scores=True,
                return_dict_in_generate=True,
            )
        return output.sequences[0, ids.shape[1] :].tolist(), [step[0].float() for step in output.scores]

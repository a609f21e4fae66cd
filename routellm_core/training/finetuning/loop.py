"""The loop that fine-tunes a transformer to label prompts: one for ``bert`` and ``causal_llm``.

transformers' ``Trainer`` is not used: its checkpoints are pickles (optimizer, scheduler, random numbers, arguments), it
needs a further package, and it batches by rows where prompts differ a hundredfold in length.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from routellm_core.errors import ConfigError
from routellm_core.routers.transformer.batching import is_out_of_memory, plan_batches, resolve_dtype, torch
from routellm_core.training.finetuning.learner import Encoded, Learner
from routellm_core.training.finetuning.options import FinetuningOptions, FinetuningProgress
from routellm_core.training.finetuning.state import FinetuningState, Position

__all__ = ["Finetuning", "LabelledRows", "label_probabilities", "seeded"]

logger = logging.getLogger(__name__)
logger.addHandler(logging.NullHandler())
_MAX_ROWS: Final = 32
_WEIGHT_DECAY: Final = 0.01
_MAX_NORM: Final = 1.0
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """What is learned: n tokenised prompts, their labels from 0 and weights, and the indices of both parts."""

    encoded: Sequence[Encoded]
    labels: Ints  # (n,)
    weights: npt.NDArray[np.float64]  # (n,), not negative
    train: Ints  # rows to learn from
    held_out: Ints  # rows to stop by


class Finetuning:
    """A training: AdamW, a learning rate that warms up and falls, and stopping by the held-out loss.

    Interrupted anywhere and run again with the same arguments, it ends with the same weights as if it had not been: to
    the last bit on a CPU with the same number of threads, up to the order of sums on a GPU.

    Args:
        learner: the model, on its device.
        rows: labelled prompts.
        options: how to train.
        seed: of the order of batches and of dropout.
        state: where the state is kept, and maybe is already.

    Raises:
        ConfigError: the precision is not the device's, or no row is held out.
    """

    def __init__(
        self, learner: Learner, rows: LabelledRows, options: FinetuningOptions, *, seed: int, state: FinetuningState
    ) -> None:
        if not len(rows.held_out) or not len(rows.train):
            raise ConfigError("too few distinct prompts to hold out a tenth to stop by")
        self._learner, self._rows, self._options, self._seed, self._state = learner, rows, options, seed, state
        self._device = learner.model.device
        self._dtype = _precision(options.precision, self._device)
        self._weights = _balanced(rows) if options.class_balance else rows.weights
        self._batches = _batches(rows.encoded, rows.train, options.token_budget)
        self._epoch_steps = -(-len(self._batches) // options.accumulation)
        self._optimizer = torch.optim.AdamW(
            learner.model.parameters(), lr=options.learning_rate, weight_decay=_WEIGHT_DECAY
        )
        # Gradients of float16 vanish below 6e-8, and are therefore computed of a multiple of the loss.
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._dtype == torch.float16)
        self.position = state.position()

    @property
    def steps(self) -> int:
        """Steps of all epochs."""
        return self._epoch_steps * self._options.epochs

    def run(self, on_progress: Callable[[FinetuningProgress], None] | None = None) -> tuple[float, ...]:
        """Train until the held-out loss stops falling, and leave the model with the best epoch's weights.

        Returns:
            the held-out loss after each epoch.

        Raises:
            ConfigError: the loss is not a number, or a batch does not fit in memory.
        """
        report = on_progress or (lambda _progress: None)
        model = self._learner.model
        with seeded(self._seed, self._device):
            if self.position.step:
                self._state.restore(self.position, model, self._optimizer, self._scaler)
                logger.info("going on after step %d of %d", self.position.step, self.steps)
                report(self._progress())
            while not self._is_done():
                self._epoch(report)
            if not self.position.losses:
                raise ConfigError("the held-out loss was not a number; lower the learning rate")
            self._state.load_best(self.position.best_epoch, model)
        model.eval()
        return self.position.losses

    def _is_done(self) -> bool:
        done = len(self.position.losses)
        return done >= self._options.epochs or done - self.position.best_epoch >= self._options.patience

    def _epoch(self, report: Callable[[FinetuningProgress], None]) -> None:
        number = len(self.position.losses)
        order = np.random.default_rng([self._seed, number]).permutation(len(self._batches))
        self._learner.model.train()
        for step in range(self.position.step - number * self._epoch_steps, self._epoch_steps):
            group = order[step * self._options.accumulation : (step + 1) * self._options.accumulation]
            loss = self._step([self._batches[place] for place in group])
            self.position = Position(self.position.step + 1, self.position.losses)
            if self._options.save_steps and self.position.step % self._options.save_steps == 0:
                self._save()
            report(self._progress(loss))
        held_out = self._held_out_loss()
        if not np.isfinite(held_out):
            raise ConfigError(f"the held-out loss of epoch {number + 1} is not a number; lower the learning rate")
        self.position = Position(self.position.step, (*self.position.losses, held_out))
        if self.position.best_epoch == number + 1:
            self._state.save_best(number + 1, self._learner.model)
        self._save()
        logger.info("epoch %d: held-out loss %.4f", number + 1, held_out)
        report(self._progress(held_out_loss=held_out))

    def _step(self, batches: Sequence[Ints]) -> float:
        """Take one step on the weighted mean loss of all rows of ``batches``, and return that loss."""
        step = self.position.step
        torch.manual_seed(int(np.random.SeedSequence([self._seed, step]).generate_state(1)[0]))
        for group in self._optimizer.param_groups:
            group["lr"] = self._options.learning_rate * _warm_then_falling(step, self.steps)
        self._optimizer.zero_grad()
        total = max(sum(float(self._weights[batch].sum()) for batch in batches), 1e-9)
        loss = 0.0
        for batch in batches:
            with _enough_memory(self._rows.encoded, batch):
                with self._autocast():
                    losses = self._learner.losses([self._rows.encoded[row] for row in batch], self._tensor(batch))
                    part = (losses * self._factors(batch, losses)).sum() / total
                self._scaler.scale(part).backward()
            loss += float(part.detach())
        self._scaler.unscale_(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self._learner.model.parameters(), _MAX_NORM)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss

    def _held_out_loss(self) -> float:
        """Cross-entropy over the labels, as the router's softmax sees them, whatever else is trained."""
        rows, summed, total = self._rows, 0.0, 0.0
        self._learner.model.eval()
        with torch.inference_mode(), self._autocast():
            for batch in _batches(rows.encoded, rows.held_out, self._options.token_budget):
                logits = self._learner.label_logits([rows.encoded[row] for row in batch])
                losses = torch.nn.functional.cross_entropy(logits.float(), self._tensor(batch), reduction="none")
                summed += float((losses * self._factors(batch, losses)).sum())
                total += float(self._weights[batch].sum())
        return summed / max(total, 1e-9)

    def _autocast(self) -> Any:
        if self._dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=self._dtype)

    def _tensor(self, batch: Ints) -> Any:
        return torch.as_tensor(self._rows.labels[batch], device=self._device)

    def _factors(self, batch: Ints, like: Any) -> Any:
        return torch.as_tensor(self._weights[batch], device=self._device, dtype=like.dtype)

    def _save(self) -> None:
        self._state.save(self.position, self._learner.model, self._optimizer, self._scaler)

    def _progress(self, loss: float | None = None, held_out_loss: float | None = None) -> FinetuningProgress:
        finished = len(self.position.losses) - (held_out_loss is not None)
        epochs = self._options.epochs
        epoch = min(finished + 1, epochs)
        return FinetuningProgress(self.position.step, self.steps, epoch, epochs, loss, held_out_loss)


def label_probabilities(learner: Learner, encoded: Sequence[Encoded], *, token_budget: int) -> npt.NDArray[np.float64]:
    """Return P(label) for each prompt, shape (n, labels), in float32 on the model's device."""
    learner.model.eval()
    found: dict[int, Any] = {}
    with torch.inference_mode():
        for batch in _batches(encoded, np.arange(len(encoded)), token_budget):
            logits = learner.label_logits([encoded[row] for row in batch]).float()
            found.update(zip(batch.tolist(), logits.softmax(dim=1).cpu().numpy(), strict=True))
    return np.array([found[row] for row in range(len(encoded))], dtype=np.float64)


def _batches(encoded: Sequence[Encoded], members: Ints, token_budget: int) -> list[Ints]:
    lengths = [len(encoded[row]["input_ids"]) for row in members]
    return [members[part] for part in plan_batches(lengths, token_budget=token_budget, max_rows=_MAX_ROWS)]


def _balanced(rows: LabelledRows) -> npt.NDArray[np.float64]:
    """Weights with which every label that occurs has the same sum over the rows learned from."""
    labels, weights = rows.labels[rows.train], rows.weights[rows.train]
    sums = np.bincount(labels, weights, minlength=int(rows.labels.max()) + 1)
    factors = np.where(sums > 0.0, weights.sum() / (np.maximum(sums, 1e-9) * np.count_nonzero(sums)), 1.0)
    return np.asarray(rows.weights * factors[rows.labels])


def _precision(wanted: str, device: Any) -> Any:
    """Return the ``torch.dtype`` to compute in."""
    if wanted == "auto":
        # Mixed precision on Apple's and other devices is left to those who ask for it.
        return resolve_dtype("auto", device) if device.type == "cuda" else torch.float32
    if wanted == "float16" and device.type != "cuda":
        raise ConfigError(f"precision 'float16' needs a CUDA device, not {device.type!r}; take 'bfloat16' or 'float32'")
    return resolve_dtype(wanted, device)


def _warm_then_falling(step: int, steps: int) -> float:
    warm = max(1, steps // 10)
    return min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))


@contextmanager
def seeded(seed: int, device: Any = None) -> Iterator[None]:
    """Seed torch's generators, and give those of the CPU and of a CUDA ``device`` back afterwards as they were."""
    devices = [device.index or 0] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def _enough_memory(encoded: Sequence[Encoded], batch: Ints) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        longest = max(len(encoded[row]["input_ids"]) for row in batch)
        raise ConfigError(
            f"the device's memory does not suffice for a batch of {len(batch)} prompts of up to {longest} tokens; "
            "lower the token budget (and raise the accumulation, which keeps the size of a step), or the prompts' most "
            "tokens"
        ) from error

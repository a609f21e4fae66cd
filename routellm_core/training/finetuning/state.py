"""The state of an unfinished fine-tuning on disk, so that a killed one goes on where it was.

Everything is safetensors and JSON. (transformers' ``Trainer`` keeps optimizer and random numbers in pickles, which
nobody should open from a folder that was passed on.) The files of a step are complete before ``state.json`` names them,
so a state is never half of one and half of another.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model

from routellm_core._files import read_json
from routellm_core.errors import CheckpointError, ConfigError

__all__ = ["FinetuningState", "Position"]

_FOLDER: Final = "training_state"
_FORMAT: Final = "routellm-finetuning/1"
_STATE, _MODEL, _OPTIMIZER = "state.json", "model.safetensors", "optimizer.safetensors"


@dataclass(frozen=True)
class Position:
    """How far a training is.

    Random numbers (order of batches, dropout) follow from seed and step, the learning rate from the step: neither has a
    state of its own.
    """

    step: int = 0  # steps of the optimizer that are done, over all epochs
    losses: tuple[float, ...] = ()  # held-out loss after each finished epoch

    @property
    def best_epoch(self) -> int:
        """The epoch, from 1, with the lowest held-out loss, the first of equal ones; 0 before any has ended."""
        return 1 + self.losses.index(min(self.losses)) if self.losses else 0


class FinetuningState:
    """The folder ``training_state`` in a checkpoint's folder.

    Args:
        output: the checkpoint's folder.
        run: what decides the result (rows, base, options, seed), JSON-ready; a state of another run is refused.
        restart: discard what is there.
    """

    def __init__(self, output: Path, run: Mapping[str, Any], *, restart: bool = False) -> None:
        self.folder = output / _FOLDER
        self._run = json.loads(json.dumps(run))
        if restart:
            self.clear()

    def position(self) -> Position:
        """Return where the saved training was, or the beginning.

        Raises ConfigError where what is saved is another training's, and CheckpointError where it is damaged.
        """
        if not (self.folder / _STATE).is_file():
            return Position()
        content = read_json(self.folder / _STATE)
        try:
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']!r}")
            run, position = dict(content["run"]), content["position"]
            found = Position(int(position["step"]), tuple(float(loss) for loss in position["losses"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{self.folder / _STATE} is not a training's state: {error!r}. {_ADVICE}") from error
        if run != self._run:
            raise ConfigError(
                f"{self.folder} is the state of another training ({_difference(run, self._run)}). Repeat that command "
                "to go on with it, give another output folder, or restart to discard it"
            )
        return found

    def save(self, position: Position, model: Any, optimizer: Any, scaler: Any) -> None:
        """Replace what is saved by the present state."""
        folder = self._step_folder(position)
        folder.mkdir(parents=True, exist_ok=True)
        save_model(model, str(folder / _MODEL))
        tensors = {
            f"{number}.{name}": value.contiguous()
            for number, values in optimizer.state_dict()["state"].items()
            for name, value in values.items()
        }
        save_file(tensors, folder / _OPTIMIZER)
        content = {"format": _FORMAT, "position": asdict(position), "scaler": scaler.state_dict(), "run": self._run}
        partial = self.folder / f"{_STATE}.part"
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        partial.replace(self.folder / _STATE)
        self._remove_others(position)

    def restore(self, position: Position, model: Any, optimizer: Any, scaler: Any) -> None:
        """Load what :meth:`save` wrote, or raise CheckpointError where a file is missing or damaged."""
        folder = self._step_folder(position)
        try:
            load_model(model, str(folder / _MODEL))
            tensors = load_file(folder / _OPTIMIZER)
            values: dict[int, dict[str, Any]] = {}
            for key, value in tensors.items():
                number, _, name = key.partition(".")
                values.setdefault(int(number), {})[name] = value
            optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})
            scaler.load_state_dict(read_json(self.folder / _STATE)["scaler"])
        except (SafetensorError, OSError, RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f"the training's state in {folder} is damaged: {error}. {_ADVICE}") from error

    def save_best(self, epoch: int, model: Any) -> None:
        """Keep an epoch's weights."""
        self.folder.mkdir(parents=True, exist_ok=True)
        save_model(model, str(self._best_file(epoch)))

    def load_best(self, epoch: int, model: Any) -> None:
        """Load what :meth:`save_best` wrote, or raise CheckpointError where it is missing or damaged."""
        try:
            load_model(model, str(self._best_file(epoch)))
        except (SafetensorError, OSError, RuntimeError) as error:
            raise CheckpointError(f"{self._best_file(epoch)} is damaged: {error}. {_ADVICE}") from error

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _step_folder(self, position: Position) -> Path:
        # An epoch's last step comes twice, before and after its held-out loss is known.
        return self.folder / f"step-{position.step}-{len(position.losses)}"

    def _best_file(self, epoch: int) -> Path:
        return self.folder / f"best-{epoch}.safetensors"

    def _remove_others(self, position: Position) -> None:
        kept = {self._step_folder(position), self._best_file(position.best_epoch)}
        for path in self.folder.glob("step-*"):
            if path not in kept:
                shutil.rmtree(path)
        for path in self.folder.glob("best-*.safetensors"):
            if path not in kept:
                path.unlink()


_ADVICE: Final = "Restart to discard it"


def _difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    return "; ".join(f"{name} was {there.get(name)!r:.60}, is {here.get(name)!r:.60}" for name in names[:3])

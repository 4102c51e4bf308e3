"""Checkpoints: everything that a training needs to go on as if it had never stopped; safetensors, no pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from lsn_core.files import InputError, atomic

REMEDY = "delete it, and resume from the one before it, or train again where there is none"


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is kept; names sort as steps do."""
    return Path(folder) / f"step_{step:08d}.safetensors"


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the oldest first; none where there is no folder."""
    return sorted(Path(folder).glob("step_*.safetensors"))


def keep_newest(folder: Path, count: int) -> None:
    """Delete all but the last `count` checkpoints of a folder."""
    for path in checkpoints(folder)[:-count]:
        path.unlink(missing_ok=True)


def save_checkpoint(path: Path, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer], header: dict) -> Path:
    """Write networks, optimisers, torch's random states and a JSON `header` atomically.

    `header` is whatever the training must know again, its step and configuration. Of several GPUs, the random state is
    the current one's.
    """
    tensors = {"random/cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    groups = {}
    for name, module in modules.items():
        tensors |= {f"module/{name}/{key}": value for key, value in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        groups[name] = state["param_groups"]
        for index, slots in state["state"].items():
            tensors |= {f"optimizer/{name}/{index}/{slot}": value for slot, value in slots.items()}
    blob = save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, _text(header=header, groups=groups))
    with atomic(path) as part:
        part.write_bytes(blob)
    return Path(path)


def read_header(path: Path) -> dict[str, Any]:
    """The header of a checkpoint. Raises `InputError` where the file is damaged."""
    return json.loads(_open(path)[1]["header"])


def load_checkpoint(path: Path, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer]) -> dict[str, Any]:
    """Restore networks, optimisers and torch's random states in place; return the header.

    Raises `InputError` where the file is damaged or was written by other networks. A GPU's random state is restored
    where there is a GPU and the file has one.
    """
    tensors, header = _open(path)
    try:
        for name, module in modules.items():
            module.load_state_dict(_below(tensors, f"module/{name}/"))
        for name, optimizer in optimizers.items():
            _load_optimizer(optimizer, _below(tensors, f"optimizer/{name}/"), json.loads(header["groups"])[name])
        torch.set_rng_state(tensors["random/cpu"])
        if torch.cuda.is_available() and "random/cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random/cuda"])
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path}: does not fit these networks ({reason}); resume with the run's own settings"
        ) from error
    return json.loads(header["header"])


def _load_optimizer(optimizer: Optimizer, slots: dict[str, Tensor], groups: list[dict[str, Any]]) -> None:
    """Put the slots ("index/name") back into an optimiser's state, laid out in memory as their parameters are.

    A fused optimiser runs over parameters, gradients and slots side by side in the order of memory.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in slots.items():
        index, slot = key.split("/")
        state.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter, slots_of in optimizer.state.items():
        for slot, value in slots_of.items():
            if value.shape == parameter.shape:
                slots_of[slot] = torch.empty_like(parameter).copy_(value)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _open(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a checkpoint, and its header's texts."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors, header = {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: the checkpoint cannot be read ({error}); {REMEDY}") from error
    if not {"header", "groups"} <= header.keys():
        raise InputError(f"{path}: not a checkpoint of this package; {REMEDY}")
    return tensors, header


def _text(**values: Any) -> dict[str, str]:
    """Values as the JSON texts that a safetensors header may hold."""
    return {key: json.dumps(value) for key, value in values.items()}

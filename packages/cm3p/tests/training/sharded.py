"""``cm3p train`` with fully sharded parameters on the CPU, which accelerate shards on GPUs alone.

Arguments: those of ``cm3p train``. The environment is that of one process of a distributed run. What accelerate is told
here is that the processes have GPUs; everything after that is what happens on GPUs.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType

from cm3p.training.train import main

# As in configs/accelerate/fsdp.yaml, but in float32.
PROFILE = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_OFFLOAD_PARAMS": "false",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
}


def _backend(*_: Any) -> tuple[str, DistributedType]:
    return "gloo", DistributedType.MULTI_GPU


def _set_device(state: Any) -> None:
    state.device = torch.device("cpu")


if __name__ == "__main__":
    os.environ.update(PROFILE)
    torch.distributed.init_process_group("gloo")
    PartialState._prepare_backend = _backend  # type: ignore[method-assign]
    PartialState.set_device = _set_device  # type: ignore[method-assign]
    main(sys.argv[1:])

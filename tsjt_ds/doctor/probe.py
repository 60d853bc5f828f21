"""One of two processes that sum a number over gloo: ``python -m tsjt_ds.doctor.probe RANK PORT``.

A process of its own, so that a torch that cannot be loaded is a finding and no crash, and no GPU
memory is held. Prints one JSON object a line: what torch is, then the seconds that meeting and
summing took.
"""

import json
import sys
import time
from datetime import timedelta

PATIENCE = timedelta(seconds=30)


def main(rank: int, port: int) -> None:
    """Say what torch is, meet the other process, and sum."""
    import torch
    from torch import distributed

    cuda = torch.cuda.is_available()
    facts = {
        "version": torch.__version__,
        "cuda_build": torch.version.cuda,
        "cuda_devices": torch.cuda.device_count() if cuda else 0,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if cuda else "",
        "bf16": bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()),
        "fp16": bool(torch.ops.mkldnn._is_mkldnn_fp16_supported()),
    }
    print(json.dumps(facts), flush=True)
    start = time.perf_counter()
    distributed.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=2,
        timeout=PATIENCE,
    )
    total = torch.tensor([1.0 + rank])
    distributed.all_reduce(total)
    if total.item() != 3.0:
        sys.exit(f"1 + 2 summed to {total.item()}")
    print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

"""The description of a cluster: what predictions of speed go by. Imports no torch."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field

from tsjt_ds.config.deepspeed_sections import Positive
from tsjt_ds.config.schema import Section, validate
from tsjt_ds.config.strict_yaml import load_yaml
from tsjt_ds.errors import UserError

Amount = Annotated[float, Field(gt=0.0)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]


class PeakFlops(Section):
    """``peak_tflops``: of one device, dense, by precision; 10¹² FLOP/s."""

    fp32: Amount
    bf16: Amount
    fp16: Amount


class Cluster(Section):
    """Equal nodes of equal devices."""

    name: str
    device: Literal["cuda", "cpu"] = "cuda"
    devices_per_node: Positive
    """Devices (or, of CPUs, processes) of a node."""
    peak_tflops: PeakFlops
    achievable_share: Share
    """Of the peak, in the model's passes on one device."""
    layer_launch_us: Annotated[float, Field(ge=0.0)] = 0.0
    """Microseconds that launching the kernels of a layer's forward and backward pass takes: what a
    micro-batch costs however small it is."""
    memory_gb: Amount
    """Of one device; 10⁹ bytes."""
    usable_share: Share = 0.85
    """Of the memory: the rest is the context's, the communication library's, lost between blocks,
    and what the prediction may be wrong by."""
    intra_node_gb_per_second: Amount
    """From one device to others of its node, in one direction; 10⁹ bytes/s."""
    inter_node_gb_per_second: Amount
    """The same to other nodes."""

    @property
    def usable_bytes(self) -> float:
        """Memory that tensors may take."""
        return self.memory_gb * 1e9 * self.usable_share

    def bandwidth(self, span: int) -> float:
        """Bytes/s of a device within a group that spans so many neighbouring ranks."""
        within = span <= self.devices_per_node
        return 1e9 * (self.intra_node_gb_per_second if within else self.inter_node_gb_per_second)


def load_cluster(path: Path) -> Cluster:
    """Read and check a description.

    Raises:
        UserError: one line for each mistake.
    """
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror} (name a cluster's description)") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no mapping (see clusters/ for examples)")
    return validate(Cluster, values, str(path))

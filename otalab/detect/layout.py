"""The memory formats in which the detector's convolutions are fast, which depends on the processor."""

import torch
from torch import Tensor, nn

FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def place(model: nn.Module, device: torch.device, name: str = "auto") -> nn.Module:
    """Move a detector to a device, in the memory format `name`: "channels_last", "contiguous" or "auto".

    "auto" chooses what is fast. CUDA: channels_last. A CPU with AVX-512: channels_last, except for the head. Any other
    CPU: contiguous. On AVX2, oneDNN takes up to twice as long for the gradient of a weight in channels_last. On AVX-512
    it does so only for the largest maps. The four 3x3 convolutions of each tower of the head work on these, and would
    make it train 8 % slower. The values of the weights do not change.
    """
    if name != "auto":
        return model.to(device, memory_format=FORMATS[name])
    gpu = device.type == "cuda"
    last = gpu or torch.backends.cpu.get_cpu_capability() == "AVX512"
    model.to(device, memory_format=torch.channels_last if last else torch.contiguous_format)
    model.head.to(memory_format=torch.channels_last if gpu else torch.contiguous_format)
    return model


def layout_of(weight: Tensor) -> torch.memory_format:
    """The memory format of a convolution's weight. Its input should have the same one, since a mixture costs copies."""
    last = weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format

"""Each part of the detector runs in the memory format of its weights, and answers alike in each."""

import pytest
import torch
from torch.testing import assert_close

from otalab.detect.layout import layout_of, place

from .models import eager_detector, noise

LAST, FIRST = torch.channels_last, torch.contiguous_format


@pytest.mark.parametrize(
    ("processor", "body", "head"), [("AVX512", LAST, FIRST), ("AVX2", FIRST, FIRST), ("DEFAULT", FIRST, FIRST)]
)
def test_the_processor_decides_on_the_format_and_maps_have_that_of_the_weights(processor, body, head, monkeypatch):
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: processor)
    model, (image,) = eager_detector("resnet18"), noise((64, 96))
    with torch.inference_mode():
        (wanted,) = model([image])
    place(model.to(memory_format=LAST), torch.device("cpu"))
    assert layout_of(model.backbone.body.conv1.weight) == body and layout_of(model.head.logits.weight) == head
    seen = {}
    layers = {"body": model.backbone.body.layer2[0].conv1, "fpn": model.backbone.fpn.layer_blocks[0][0]}
    layers |= {"class tower": model.head.class_tower[0], "box tower": model.head.box_tower[3]}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda _, inputs, y, name=name: seen.update({name: layout_of(inputs[0])}))
    with torch.inference_mode():
        (found,) = model([image])
    assert seen == {"body": body, "fpn": body, "class tower": head, "box tower": head}
    assert_close(found["scores"], wanted["scores"], rtol=0, atol=1e-4)

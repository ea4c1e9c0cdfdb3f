"""Record what mmdetection labels with MaxIoUAssigner, in float64.

With mmdetection 3.3 installed, from the repository root: python -m tests.assign.golden.record_max_iou
"""

import torch
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from mmengine.structures import InstanceData

from ..cases import SCENES, make_case
from .cases import positives, write

RULES = {"retinanet": (0.5, 0.4, 0.0, True), "rpn": (0.7, 0.3, 0.3, True), "rcnn": (0.5, 0.5, 0.0, False)}
STRIDES = (8, 16, 32, 64, 128)


def mmdetection(anchors, targets, pos_iou_thr, neg_iou_thr, min_pos_iou, low_quality) -> list[int]:
    """Labels of anchor boxes: -1 background, -2 ignored."""
    assigner = MaxIoUAssigner(pos_iou_thr, neg_iou_thr, min_pos_iou, match_low_quality=low_quality)
    gts = InstanceData(bboxes=targets.boxes, labels=targets.labels)
    found = assigner.assign(InstanceData(priors=anchors), gts).gt_inds
    return torch.where(found < 0, -2, found - 1).tolist()


def nine_anchors() -> list[list[float]]:
    """RetinaNet's anchors of the first point of each level, centred on ours, (5 * 9, 4)."""
    make = AnchorGenerator(
        strides=STRIDES, ratios=[0.5, 1.0, 2.0], octave_base_scale=4, scales_per_octave=3, center_offset=0.5
    )
    return torch.cat(make.grid_priors([(1, 1)] * 5, device="cpu")).tolist()


def main() -> None:
    records = []
    for seed in range(16):
        arguments = {"seed": seed, "num_gt": 1 + seed % 8, "scene": SCENES[seed % 8]}
        case = make_case(**arguments)
        record = {"case": arguments} | ({"nine anchors": nine_anchors()} if seed == 0 else {})
        for name, rule in list(RULES.items())[: 3 if seed % 3 == 0 else 1]:
            label = mmdetection(case.points.boxes(scale=8.0), case.targets, *rule)
            ignored = [point for point, gt in enumerate(label) if gt == -2]
            record[name] = {"positives": positives(label), "ignored": ignored}
        records.append(record)
    write("max_iou", records)


if __name__ == "__main__":
    main()

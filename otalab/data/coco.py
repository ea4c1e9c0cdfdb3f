"""COCO-format folders as a PyTorch data set: images in 0..1, boxes in pixels, labels 0..C-1."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from otalab.data.annotations import by_id, choose_categories, find_split, missing_files, read_annotations, whole_numbers
from otalab.data.images import is_turned, read_image
from otalab.data.memory import free_memory
from otalab.data.table import box_table, choose_images, classes_line, under_a_pixel, used_line
from otalab.errors import InputError, one_line

log = logging.getLogger(__name__)


class CocoDataset(torch.utils.data.Dataset):
    """A COCO annotation file with its images.

    An item is `(image, target)`. The image is float32 (3, H, W) in 0..1. The target is a dict with `boxes` (m, 4)
    float32 xyxy px, `labels` (m,) int64 in 0..C-1, `ignore_boxes` (c, 4) float32 xyxy px (the regions with `iscrowd` or
    `ignore`, which are never training targets), `image_id` int64 scalar, and `size` (2,) int64, the height and width of
    the file in px.

    transforms: called as `transforms(image, target)` with a uint8 `tv_tensors.Image` and a dict whose `boxes` are
                `tv_tensors.BoundingBoxes`; ignore regions are among them, marked by label -1
    categories: names of the classes to keep; None keeps all
    background: how many of the images without a box of these classes take part; None: all of them
    max_images: how many of the remaining images to choose; None: all of them
    seed:       decides both choices; a smaller choice is part of a larger one
    cache:      whether to decode every image at once and keep it as uint8, 3 H W bytes each

    Boxes are clipped to the image; `.clipped` counts those of which an edge moves by 1 px or more. Boxes without area,
    before or after clipping, are dropped and counted in `.dropped`. One warning gives both numbers, and `account` says
    what else is left out. Any other fault raises InputError: in the constructor where possible, else when the item is
    read.

    `.class_names` and `.category_ids` have one entry per label, `.image_ids` one per item. Ids are those of the file.
    If one of them is a text or beyond 2**53, they are 1, 2, ... instead, in the order of the file's ids. `.sizes`
    (n, 2) int64 holds the height and width of each image in px.
    """

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        transforms: Callable | None = None,
        categories: Sequence[str] | None = None,
        max_images: int | None = None,
        background: int | None = None,
        seed: int = 0,
        cache: bool = False,
    ) -> None:
        self.annotations, self.images, self.transforms = Path(annotations), Path(images), transforms
        content = read_annotations(self.annotations)
        self.class_names, label = choose_categories(content, categories, self.annotations)
        number = whole_numbers(sorted(content["categories"], key=by_id))
        self.category_ids = [number[category] for category in label]

        files = sorted(content["images"], key=by_id)
        number = whole_numbers(files)
        table = box_table(content["annotations"], files, label, self.annotations)
        chosen, self._images_left_out = choose_images(table, len(files), background, max_images, seed)
        if not chosen:
            why = ", ".join(f"{number} {reason}" for reason, number in self._images_left_out.items() if number)
            hint = f": {why} (--background N takes N of those without)" if why else ""
            raise InputError(f"{self.annotations}: no image is left of {len(files)}{hint}")
        known, here = table["label"] >= 0, np.isin(table["place"], chosen)
        self._table = table = table[known & here]
        table["place"] = np.searchsorted(chosen, table["place"])
        self._first = np.searchsorted(table["place"], np.arange(len(chosen) + 1))

        files = [files[i] for i in chosen]
        self.image_ids = [number[row["id"]] for row in files]
        self._files = [row["file_name"] for row in files]
        self.sizes = np.array([(row["height"], row["width"]) for row in files], dtype=np.int64)
        if missing := missing_files(self.images, self._files):
            count = f"{len(missing)} of {len(files)} images are missing"
            raise InputError(f"{count} in {self.images}, the first is {missing[0]}")

        zero, self.dropped = int(table["zero"].sum()), int((~table["usable"]).sum())
        self.clipped = int((table["clipped"] & table["usable"]).sum())
        self._boxes_left_out = {
            "of other categories": int((~known).sum()),
            "in images left out": int((known & ~here).sum()),
            "of zero area": zero,
            "outside their image": self.dropped - zero,
            "regions to ignore (iscrowd, ignore)": int((table["usable"] & table["ignored"]).sum()),
        }
        if self.dropped or self.clipped:
            log.warning(
                "%s: %d boxes of zero area and %d outside their image dropped, %d clipped to their image",
                *(one_line(self.annotations), zero, self.dropped - zero, self.clipped),
            )
        self._cache: list[Tensor] | None = None
        if cache:
            self.keep_in_memory()

    @classmethod
    def from_folder(
        cls, folder: str | Path, split: str, transforms: Callable | None = None, **options
    ) -> "CocoDataset":
        """A split of a folder in one of the layouts that `find_split` knows; options as in the constructor."""
        return cls(*find_split(folder, split), transforms=transforms, **options)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, i: int) -> tuple[Float[Tensor, "3 h w"], dict[str, Tensor]]:
        i = range(len(self))[i]  # allows negative indices, and ends iteration with an IndexError
        image = tv_tensors.Image(self._decode(i) if self._cache is None else self._cache[i])
        rows = self._table[self._first[i] : self._first[i + 1]]
        rows = rows[rows["usable"]]
        boxes = torch.tensor(rows["xyxy"])
        target = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=tuple(image.shape[-2:])),
            "labels": torch.tensor(np.where(rows["ignored"], -1, rows["label"])),
            "image_id": torch.tensor(self.image_ids[i]),
            "size": torch.tensor(self.sizes[i]),
        }
        if self.transforms is not None:
            image, target = self.transforms(image, target)
        boxes, labels = target["boxes"].as_subclass(Tensor).reshape(-1, 4), target["labels"]
        image = F.to_dtype(image, torch.float32, scale=True).as_subclass(Tensor)
        return image, {
            **target,
            "boxes": boxes[labels >= 0],
            "labels": labels[labels >= 0],
            "ignore_boxes": boxes[labels < 0],
        }

    def index_of(self, file_name: str) -> int:
        """The index of the item for an image file. Raises InputError if the file is not in the set."""
        if file_name not in self._files:
            raise InputError(f"{self.annotations} has no image {file_name}")
        return self._files.index(file_name)

    def ground_truth(self) -> dict:
        """The COCO dict of the chosen images and classes, for pycocotools: boxes as annotated, ignore regions included.

        Images and categories have the ids of `.image_ids` and `.category_ids`. Annotations have the ids 1, 2, ...,
        because COCO's evaluation takes 0 for "no match". Regions with `ignore` get `iscrowd` 1.
        """
        images = [
            {"id": image, "file_name": name, "height": height, "width": width}
            for image, name, (height, width) in zip(self.image_ids, self._files, self.sizes.tolist(), strict=True)
        ]
        annotations = [
            {
                "id": number,
                "image_id": self.image_ids[row["place"]],
                "category_id": self.category_ids[row["label"]],
                "bbox": row["annotated"].tolist(),
                "area": float(row["area"]),
                "iscrowd": int(row["ignored"]),
            }
            for number, row in enumerate(self._table, 1)
        ]
        names = zip(self.category_ids, self.class_names, strict=True)
        categories = [{"id": category, "name": name} for category, name in names]
        return {"info": {}, "images": images, "annotations": annotations, "categories": categories}

    def summary(self) -> str:
        """One line: images, boxes, classes, crowd regions, images without a box."""
        crowds = self._boxes_left_out["regions to ignore (iscrowd, ignore)"]
        return (
            f"{len(self)} images, {self._table['gt'].sum()} boxes, {len(self.class_names)} classes, "
            f"{crowds} crowd regions, {len(self) - self._filled()} images without a box"
        )

    def account(self, size: int | None = None, max_size: int | None = None) -> list[str]:
        """Three lines of text: the images, boxes and classes that training sees, what it does not see, and why.

        A box with a side under 1 px counts as left out, because the transforms drop it. Its sides are those after the
        resize to `size` and `max_size` px, or as stored if `size` is None. The account leaves aside augmentation, and
        the last images of an epoch, which may not fill a batch.
        """
        used, filled = self._seen(size, max_size), self._filled()
        small = "under 1 px" if size is None else f"under 1 px at size {size}"
        left_out = {**self._boxes_left_out, small: int((self._table["gt"] & ~used).sum())}
        counts = np.bincount(self._table["label"][used], minlength=len(self.class_names)).tolist()
        with_box = f", {filled:,} with a box, {len(self) - filled:,} without"
        return [
            used_line("images", len(self), self._images_left_out, with_box),
            used_line("boxes", int(used.sum()), left_out),
            classes_line(self.class_names, counts),
        ]

    def count_usable(self, size: int | None = None, max_size: int | None = None) -> int:
        """The number of boxes that training sees; see `account`."""
        return int(self._seen(size, max_size).sum())

    def _seen(self, size: int | None, max_size: int | None) -> Bool[np.ndarray, " n"]:
        return self._table["gt"] & ~under_a_pixel(self._table, self.sizes, size, max_size)

    def _filled(self) -> int:
        """The number of images that have a gt."""
        return len(np.unique(self._table["place"][self._table["gt"]]))

    def keep_in_memory(self) -> None:
        """Decode and keep every image, as `cache=True` does. Raises InputError first if memory is too small."""
        need, free = 3 * int(self.sizes.prod(1).sum()), free_memory()
        if free is not None and need > free:
            raise InputError(
                f"{self.images}: {len(self)} decoded images need {need / 1e9:.1f} GB of memory, but "
                f"{free / 1e9:.1f} GB are free; let a loader process decode them (--workers 1), or use fewer"
            )
        self._cache = [self._decode(i) for i in range(len(self))]

    def _decode(self, i: int) -> UInt8[Tensor, "3 h w"]:
        path, (high, wide) = self.images / self._files[i], self.sizes[i].tolist()
        image = read_image(path)
        if image.shape[:2] != (high, wide):
            stored = f"{image.shape[1]} x {image.shape[0]} px"
            fault = f"{path} is {stored}, but its annotation says {wide} x {high} px"
            if image.shape[:2] == (wide, high) and is_turned(path):
                fault += ", as EXIF turns it: store its pixels turned, since COCO's boxes refer to what is stored"
            raise InputError(fault)
        return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def collate(batch: list[tuple[Tensor, dict]]) -> tuple[list[Tensor], list[dict]]:
    """A batch as torchvision's detectors expect it: a list of images and a list of targets."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)

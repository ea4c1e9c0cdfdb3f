"""Which gts are found, by size: worked by hand."""

import pytest

from benchmarks.found import found_by_size, main

TRUTH = {
    "images": [{"id": 1, "width": 100, "height": 100}, {"id": 2, "width": 100, "height": 100}],
    "annotations": [
        {"id": number, "image_id": image, "category_id": category, "bbox": [*at, side, side], "area": side**2}
        | {"iscrowd": crowd}
        for number, image, category, at, side, crowd in [
            (1, 1, 1, (0, 0), 10, 0),
            (2, 1, 1, (20, 20), 12, 0),
            (3, 2, 2, (0, 0), 16, 0),  # a bin's least value is its own
            (4, 2, 2, (0, 0), 70, 1),
        ]
    ],
    "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
}


def box(image: int, category: int, place: list, score: float) -> dict:
    return {"image_id": image, "category_id": category, "bbox": place, "score": score}


def test_gts_are_found_by_the_best_boxes_and_by_all():
    results = [
        box(1, 1, [0, 0, 10, 10], 0.9),
        box(1, 1, [50, 50, 10, 10], 0.8),  # nothing is there, and it is among the best three
        box(2, 1, [0, 0, 16, 16], 0.7),  # of another class
        box(1, 1, [20, 20, 12, 12], 0.1),
    ]
    assert found_by_size(TRUTH, results) == [("under 16", 2, 0.5, 1.0), ("16 to 32", 1, 0.0, 0.0)]


def test_nothing_is_found_by_no_box():
    assert found_by_size(TRUTH, []) == [("under 16", 2, 0.0, 0.0), ("16 to 32", 1, 0.0, 0.0)]


def test_a_folder_that_holds_no_run_is_told(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--data", str(tmp_path)])
    assert "no checkpoint at" in capsys.readouterr().err

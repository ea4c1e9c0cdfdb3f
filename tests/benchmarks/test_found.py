"""Which gts are found, by size: worked by hand."""

import pytest

from benchmarks.found import found_by_size, main

TRUTH = {
    "images": [{"id": 1}, {"id": 2}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "area": 100},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [20, 20, 12, 12], "area": 144},
        {"id": 3, "image_id": 2, "category_id": 2, "bbox": [0, 0, 16, 16], "area": 256},  # a bin's least value is its
        {"id": 4, "image_id": 2, "category_id": 2, "bbox": [0, 0, 70, 70], "area": 4900, "iscrowd": 1},
    ],
    "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
}


def box(image: int, category: int, place: list, score: float) -> dict:
    return {"image_id": image, "category_id": category, "bbox": place, "score": score}


def test_gts_are_found_by_the_best_boxes_by_all_and_by_those_of_any_class():
    results = [
        box(1, 1, [0, 0, 10, 10], 0.9),
        box(1, 1, [50, 50, 10, 10], 0.8),  # nothing is there, and it is among the best three
        box(2, 1, [0, 0, 16, 16], 0.7),  # of another class
        box(1, 1, [20, 20, 12, 12], 0.1),
    ]
    under, middle, *rest = found_by_size(TRUTH, results)
    assert under == {"size": "under 16", "gts": 2, "best": 1, "all": 2, "any class": 2}
    assert middle == {"size": "16 to 32", "gts": 1, "best": 0, "all": 0, "any class": 1}
    assert all(row["gts"] == row["best"] == row["any class"] == 0 for row in rest)


def test_nothing_is_found_by_no_box():
    assert [row["all"] for row in found_by_size(TRUTH, [])] == [0, 0, 0, 0]


def test_a_folder_that_holds_no_run_is_told(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--data", str(tmp_path)])
    assert "no checkpoint at" in capsys.readouterr().err

"""Writes coco-cases.json: random ground truths and detections, and their average precision from pycocotools.

    python -m venv venv && venv/bin/pip install pycocotools numpy
    venv/bin/python make_coco_cases.py > coco-cases.json
"""
import contextlib
import io
import json

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def boxes(rng, count):
    """Boxes with sides of whole and half pixels, so that some IoUs equal a threshold exactly."""
    corner = rng.integers(0, 60, (count, 2)) / 2
    size = rng.integers(2, 60, (count, 2)) / 2
    return np.concatenate([corner, size], 1)


def case(seed, pictures, classes, per_picture, extra):
    rng = np.random.default_rng(seed)
    annotations, found = [], []
    for picture in range(pictures):
        for box in boxes(rng, rng.integers(0, per_picture + 1)):
            kind = int(rng.integers(classes))
            annotations.append(dict(
                id=len(annotations) + 1, image_id=picture + 1, category_id=kind + 1, bbox=box.tolist(),
                area=float(box[2] * box[3]), iscrowd=int(rng.random() < 0.12)))
            for _ in range(rng.integers(0, 3)):
                shift = rng.integers(-6, 7, 4) / 4
                moved = np.maximum(box + shift, 0.5)
                # Scores have two digits, so that many are equal.
                found.append(dict(image_id=picture + 1, category_id=kind + 1, bbox=moved.tolist(),
                                  score=round(float(rng.random()), 2)))
        for box in boxes(rng, extra):
            found.append(dict(image_id=picture + 1, category_id=int(rng.integers(classes)) + 1,
                              bbox=box.tolist(), score=round(float(rng.random()), 2)))
    truth = COCO()
    truth.dataset = dict(images=[dict(id=i + 1) for i in range(pictures)], annotations=annotations,
                         categories=[dict(id=i + 1, name=str(i)) for i in range(classes)])
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
    # The axes are IoU, recall, class, area and number of detections: all areas, the best 100.
    precision = evaluation.eval['precision'][:, :, :, 0, 2]
    expected = [None if (precision[:, :, k] < 0).all() else precision[:, :, k].mean(1).tolist()
                for k in range(classes)]
    return dict(
        classes=classes,
        truths=[[a['image_id'] - 1, a['category_id'] - 1, *a['bbox'], a['iscrowd']] for a in annotations],
        found=[[f['image_id'] - 1, f['category_id'] - 1, *f['bbox'], f['score']] for f in found],
        expected=expected)


# The last two have more than 100 detections of a class in a picture, and a class without objects.
CASES = [(1, 6, 3, 5, 2), (2, 12, 2, 8, 4), (3, 1, 1, 40, 160), (4, 3, 9, 2, 1)]
print(json.dumps([case(*numbers) for numbers in CASES], separators=(',', ':')))

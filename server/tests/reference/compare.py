"""Compares a running server's detections with the reference's, on the same weights and pictures.

Usage: compare.py WEIGHTS.pth URL PICTURE...

They must be as many, and each of the reference's must have one of the server's with the same label, an IoU of at
least 0.99 and a probability within 1e-3.
"""
import sys

import cv2
import requests
import torch

from ssd_reference import Predictor

COCO_NAMES = {'aeroplane': 'airplane', 'motorbike': 'motorcycle', 'diningtable': 'dining table',
              'pottedplant': 'potted plant', 'sofa': 'couch', 'tvmonitor': 'tv'}


def iou(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    area = lambda box: (box[2] - box[0]) * (box[3] - box[1])
    both = width * height
    return both / (area(a) + area(b) - both)


def compare(reference, url, path):
    """Compares the detections in a picture, and returns how many there are."""
    picture = cv2.imread(path)
    height, width = picture.shape[:2]
    theirs = []
    for found in reference(picture):
        x1, y1, x2, y2 = found['box']
        box = [min(max(x1, 0), width), min(max(y1, 0), height), min(max(x2, 0), width), min(max(y2, 0), height)]
        if box[0] < box[2] and box[1] < box[3]:
            theirs.append((COCO_NAMES.get(found['label'], found['label']), found['probability'], box))
    # Sent as PNG, because JPEG decoders can differ by a level.
    sent = cv2.imencode('.png', picture)[1].tobytes()
    response = requests.post(f'{url}/predict?top_k=8732', files={'image': sent}, auth=('ugain', 'ugain'), timeout=60)
    response.raise_for_status()
    ours = []
    for found in response.json()['predictions']:
        box = found['box']
        corners = [box['x'], box['y'], box['x'] + box['width'], box['y'] + box['height']]
        ours.append((found['label'], found['probability'], corners))
    assert len(ours) == len(theirs), f'{path}: {len(ours)} detections, the reference has {len(theirs)}'
    worst_iou, worst_probability = 1.0, 0.0
    left = list(ours)
    for label, probability, box in theirs:
        same = [found for found in left if found[0] == label and abs(found[1] - probability) <= 1e-3]
        assert same, f'{path}: no {label} of probability {probability}'
        best = max(same, key=lambda found: iou(found[2], box))
        left.remove(best)
        worst_iou = min(worst_iou, iou(best[2], box))
        worst_probability = max(worst_probability, abs(best[1] - probability))
    assert worst_iou >= 0.99, f'{path}: IoU {worst_iou}'
    print(f'{path} ({width} x {height}): {len(ours)} detections equal, worst IoU {worst_iou:.4f}, '
          f'worst probability difference {worst_probability:.1e}')
    return len(ours)


if __name__ == '__main__':
    weights, url, *paths = sys.argv[1:]
    reference = Predictor(torch.load(weights, map_location='cpu'))
    total = sum(compare(reference, url, path) for path in paths)
    assert total > 0, 'nothing was detected: this compared nothing'

"""torchvision's ssd300_vgg16 at any width, with seeded weights. All code that computes is torchvision's.

Usage: torchvision_ssd.py golden          writes ../data/torchvision*
       torchvision_ssd.py weights OUT.pth writes seeded full-size weights in the layout that torchvision publishes
       torchvision_ssd.py compare WEIGHTS.pth URL PICTURE...   compares a server with torchvision
"""
import json
import math
import pathlib
import sys
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.models import vgg
from torchvision.models.detection import ssd
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

DATA = pathlib.Path(__file__).parent.parent / 'data'
CONFIGURATION = [64, 64, 'M', 128, 128, 'M', 256, 256, 256, 'M', 512, 512, 512, 'M', 512, 512, 512, 'M']


def network(narrow):
    """`ssd300_vgg16` with every channel count divided by `narrow`."""
    class Narrow(nn.Conv2d):
        def __init__(self, in_channels, out_channels, *arguments, **named):
            scaled = lambda channels: channels if channels == 3 else channels // narrow
            super().__init__(scaled(in_channels), scaled(out_channels), *arguments, **named)

    # Only the feature extractor has fixed channel counts; the heads take theirs from it.
    with mock.patch.object(nn, 'Conv2d', Narrow):
        extractor = ssd.SSDFeatureExtractorVGG(vgg.make_layers(CONFIGURATION), False)
    extractor.scale_weight = nn.Parameter(torch.ones(512 // narrow) * 20)
    boxes = DefaultBoxGenerator([[2], [2, 3], [2, 3], [2, 3], [2], [2]],
                                scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
                                steps=[8, 16, 32, 64, 100, 300])
    return ssd.SSD(extractor, boxes, (300, 300), 91, image_mean=[0.48235, 0.45882, 0.40784],
                   image_std=[1 / 255] * 3).eval()


def seed(model, number, logit_gain):
    """Sets weights with which activations neither vanish nor explode, and some boxes score high."""
    generator = torch.Generator().manual_seed(number)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith('scale_weight'):
                continue
            if name.endswith('bias'):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
                continue
            gain = 1.0
            if 'classification_head' in name:
                gain = logit_gain if name.endswith('.0.weight') else logit_gain / 4
            elif 'regression_head' in name:
                gain = 0.1 if name.endswith('.0.weight') else 0.02
            deviation = gain * math.sqrt(2 / math.prod(parameter.shape[1:]))
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)
    return model


@torch.no_grad()
def detect(model, path, least=0.6):
    pixels = np.asarray(Image.open(path).convert('RGB'))
    picture = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
    found = model([picture])[0]
    rows = zip(found['labels'].tolist(), found['scores'].tolist(), found['boxes'].tolist())
    return [dict(class_index=label, probability=score, box=box) for label, score, box in rows if score >= least]


def golden():
    from safetensors.torch import save_file
    model = seed(network(32), 7, 0.23)
    state = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    save_file(state, str(DATA / 'torchvision.safetensors'))
    image = ImageList(torch.zeros(1, 3, 300, 300), [(300, 300)])
    maps = [torch.zeros(1, 1, side, side) for side in (38, 19, 10, 5, 3, 1)]
    corners = model.anchor_generator(image, maps)[0] / 300
    low, high = corners[:, :2], corners[:, 2:]
    save_file({'priors': torch.cat([(low + high) / 2, high - low], 1).contiguous()},
              str(DATA / 'torchvision-priors.safetensors'))
    detections = detect(model, DATA / 'cat.png')
    print(len(detections), 'detections of', len({found['class_index'] for found in detections}), 'classes')
    with open(DATA / 'torchvision-detections.json', 'w') as file:
        json.dump(dict(detections=detections), file, indent=1)


def compare(weights, url, *paths):
    import requests
    from torchvision.models.detection import SSD300_VGG16_Weights, ssd300_vgg16
    from torchvision.ops import box_iou
    names = SSD300_VGG16_Weights.COCO_V1.meta['categories']
    model = ssd300_vgg16(weights=None, weights_backbone=None).eval()
    model.load_state_dict(torch.load(weights, map_location='cpu'))
    # All detections, because only the server leaves out those outside the picture before it takes the best 200.
    model.detections_per_img = 8732
    for path in paths:
        theirs = detect(model, path)
        with open(path, 'rb') as file:
            response = requests.post(f'{url}/predict?top_k=8732', files={'image': file}, auth=('ugain', 'ugain'), timeout=60)
        response.raise_for_status()
        ours = response.json()['predictions']
        # The server leaves out boxes thinner than the hundredth of a pixel to which it rounds.
        sides = lambda box: (box[2] - box[0], box[3] - box[1])
        theirs = [found for found in theirs if min(sides(found['box'])) >= 0.01]
        assert theirs and len(ours) == len(theirs), f'{path}: {len(ours)}, torchvision has {len(theirs)}'
        worst_iou, worst_score = 1.0, 0.0
        left = list(ours)
        for found in theirs:
            def overlap(other):
                box = other['box']
                corners = [box['x'], box['y'], box['x'] + box['width'], box['y'] + box['height']]
                return box_iou(torch.tensor([found['box']]), torch.tensor([corners])).item()
            same = [other for other in left if other['label'] == names[found['class_index']]
                    and abs(other['probability'] - found['probability']) <= 1e-3]
            assert same, f'{path}: no {names[found["class_index"]]} of {found["probability"]}'
            best = max(same, key=overlap)
            left.remove(best)
            worst_iou = min(worst_iou, overlap(best))
            worst_score = max(worst_score, abs(best['probability'] - found['probability']))
        assert worst_iou >= 0.99, f'{path}: IoU {worst_iou}'
        print(f'{path}: {len(ours)} detections equal torchvision\'s, worst IoU {worst_iou:.4f}, '
              f'worst score difference {worst_score:.1e}')


if __name__ == '__main__':
    command, *arguments = sys.argv[1:]
    if command == 'golden':
        golden()
    elif command == 'weights':
        torch.save(seed(network(1), 7, 0.23).state_dict(), arguments[0])
    else:
        compare(*arguments)

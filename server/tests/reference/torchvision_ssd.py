"""torchvision's ssd300_vgg16 and ssdlite320_mobilenet_v3_large at any width, with seeded weights. All code that computes
is torchvision's.

Usage: torchvision_ssd.py golden NETWORK           writes ../data/torchvision* or ../data/ssdlite*
       torchvision_ssd.py weights NETWORK OUT.pth  writes seeded full-size weights in the layout that torchvision publishes
       torchvision_ssd.py compare NETWORK WEIGHTS.pth URL PICTURE...   compares a server with torchvision

NETWORK is ssd300 or ssdlite.
"""
import functools
import json
import math
import pathlib
import sys
import typing
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.models import mobilenetv3, vgg
from torchvision.models.detection import _utils, ssd, ssdlite
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

DATA = pathlib.Path(__file__).parent.parent / 'data'
CONFIGURATION = [64, 64, 'M', 128, 128, 'M', 256, 256, 256, 'M', 512, 512, 512, 'M', 512, 512, 512, 'M']


def ssd300(narrow):
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


def ssdlite320(narrow):
    """`ssdlite320_mobilenet_v3_large` with every channel count divided by about `narrow`."""
    norm = functools.partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    backbone = mobilenetv3.mobilenet_v3_large(norm_layer=norm, reduced_tail=True, width_mult=1 / narrow).features
    strided = [index for index, block in enumerate(backbone) if getattr(block, '_is_cn', False)]
    extractor = ssdlite.SSDLiteFeatureExtractorMobileNet(backbone, strided[-1], norm, width_mult=1 / narrow)
    boxes = DefaultBoxGenerator([[2, 3] for _ in range(6)], min_ratio=0.2, max_ratio=0.95)
    channels = _utils.retrieve_out_channels(extractor, (320, 320))
    head = ssdlite.SSDLiteHead(channels, boxes.num_anchors_per_location(), 91, norm)
    return ssd.SSD(extractor, boxes, (320, 320), 91, head=head, score_thresh=0.001, nms_thresh=0.55, detections_per_img=300,
                   topk_candidates=300, image_mean=[0.5] * 3, image_std=[0.5] * 3).eval()


def seed_normalised(model, number):
    """Sets weights, then the statistics of every batch normalisation on the photographs."""
    generator = torch.Generator().manual_seed(number)
    random = lambda tensor: torch.randn(tensor.shape, generator=generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            deviation = 0.1
            if parameter.dim() == 4:
                deviation = math.sqrt(2 / math.prod(parameter.shape[1:]))
                if name.startswith('head') and name.endswith('.1.weight'):
                    deviation *= 1.5 if 'classification_head' in name else 0.15
            parameter.copy_(random(parameter) * deviation)
            if parameter.dim() == 1 and name.endswith('.1.weight'):
                parameter.add_(1)
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = None
        inputs, _ = model.transform([picture(DATA / name) for name in PHOTOGRAPHS])
        model.train()
        features = list(model.backbone(inputs.tensors).values())
        model.head(features)
    return model.eval()


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


def picture(path):
    pixels = np.asarray(Image.open(path).convert('RGB'))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


@torch.no_grad()
def detect(model, path, least=0.6):
    found = model([picture(path)])[0]
    rows = zip(found['labels'].tolist(), found['scores'].tolist(), found['boxes'].tolist())
    return [dict(class_index=label, probability=score, box=box) for label, score, box in rows if score >= least]


PHOTOGRAPHS = ['cat.png', 'mobilenet/astronaut.png', 'mobilenet/coffee.png']


class Network(typing.NamedTuple):
    """A network at any width with seeded weights, its files, its input, and its source feature maps."""
    seeded: typing.Callable
    files: str
    narrow: int
    side: int
    maps: tuple
    photographs: list


NETWORKS = {
    'ssd300': Network(lambda narrow: seed(ssd300(narrow), 7, 0.23), 'torchvision', 32, 300, (38, 19, 10, 5, 3, 1),
                      PHOTOGRAPHS[:1]),
    'ssdlite': Network(lambda narrow: seed_normalised(ssdlite320(narrow), 12), 'ssdlite', 6, 320, (20, 10, 5, 3, 2, 1),
                       PHOTOGRAPHS),
}


def golden(network):
    from safetensors.torch import save_file
    model = network.seeded(network.narrow)
    halves = lambda tensor: tensor.half() if tensor.is_floating_point() else tensor
    state = {name: halves(tensor).contiguous() for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    save_file(state, str(DATA / f'{network.files}.safetensors'))
    image = ImageList(torch.zeros(1, 3, network.side, network.side), [(network.side, network.side)])
    maps = [torch.zeros(1, 1, side, side) for side in network.maps]
    corners = model.anchor_generator(image, maps)[0] / network.side
    low, high = corners[:, :2], corners[:, 2:]
    save_file({'priors': torch.cat([(low + high) / 2, high - low], 1).contiguous()},
              str(DATA / f'{network.files}-priors.safetensors'))
    detections = {name: detect(model, DATA / name) for name in network.photographs}
    for name, found in detections.items():
        print(name, len(found), 'detections of', len({each['class_index'] for each in found}), 'classes')
    with open(DATA / f'{network.files}-detections.json', 'w') as file:
        json.dump(detections, file, indent=1)


def compare(network, weights, url, *paths):
    import requests
    from torchvision.models.detection import SSD300_VGG16_Weights
    from torchvision.ops import box_iou
    names = SSD300_VGG16_Weights.COCO_V1.meta['categories']
    model = {'ssd300': ssd300, 'ssdlite': ssdlite320}[network](1)
    model.load_state_dict(torch.load(weights, map_location='cpu'))
    # All detections, because only the server leaves out those outside the picture before it takes the best 200.
    model.detections_per_img = 8732
    for path in paths:
        theirs = detect(model, path)
        with open(path, 'rb') as file:
            response = requests.post(f'{url}/predict?top_k=8732&threshold=0.6&iou={model.nms_thresh}', files={'image': file}, auth=('ugain', 'ugain'), timeout=60)
        response.raise_for_status()
        ours = response.json()['predictions']
        # The server leaves out the gaps in COCO's ids, and boxes thinner than the hundredth of a pixel to which it rounds.
        sides = lambda box: (box[2] - box[0], box[3] - box[1])
        theirs = [found for found in theirs if names[found['class_index']] != 'N/A' and min(sides(found['box'])) >= 0.01]
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
    command, name, *arguments = sys.argv[1:]
    if command == 'golden':
        golden(NETWORKS[name])
    elif command == 'weights':
        torch.save(NETWORKS[name].seeded(1).state_dict(), arguments[0])
    else:
        compare(name, *arguments)

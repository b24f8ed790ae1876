"""Makes the palette of annotate.rs. Needs numpy.

The next colour is always the one that is farthest from all before it, and above all from the eight just before it.
The distance is the smallest for four kinds of vision: with all cones, and without long, medium or short cones (Machado,
Oliveira and Fernandes 2009, severity 1). It is Euclid's in OKLab (Ottosson 2020). Greys and colours near black or white
are left out.
"""

import numpy as np

VISIONS = np.array([
    np.eye(3),
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
])
TO_CONES = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
])
TO_LAB = np.array([
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
])


def oklab(linear):
    return np.cbrt(np.clip(linear, 0, 1) @ TO_CONES.T) @ TO_LAB.T


levels = np.arange(0, 256, 15)
colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
linear = np.where(colours <= 10, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4)
lightness, a, b = oklab(linear).T
vivid = (lightness > 0.42) & (lightness < 0.93) & (np.hypot(a, b) > 0.09)
colours, seen = colours[vivid], np.stack([oklab(linear[vivid] @ vision.T) for vision in VISIONS])


def distances(index):
    return np.linalg.norm(seen - seen[:, index : index + 1], axis=2).min(axis=0)


# Vermilion stands out in most photographs.
chosen = [int(np.abs(colours - [225, 75, 0]).sum(axis=1).argmin())]
rows = [distances(chosen[0])]
while len(chosen) < 80:
    all_before, just_before = np.min(rows, axis=0), np.min(rows[-8:], axis=0)
    score = np.minimum(all_before / 0.035, just_before / 0.08) + 2 * all_before
    chosen.append(int(score.argmax()))
    rows.append(distances(chosen[-1]))
for start in range(0, 80, 8):
    print("    " + " ".join("0x%02x%02x%02x," % tuple(colours[index]) for index in chosen[start : start + 8]))

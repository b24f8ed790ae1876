"""Writes the pictures beside this file: one photograph in many formats, by encoders of other programs.

Usage: make.py (needs pillow, pypng and numpy). The photograph is ../cat.png, made small.
"""
import pathlib
import numpy as np
import png
from PIL import Image, ImageOps

here = pathlib.Path(__file__).parent
cat = Image.open(here.parent / 'cat.png').convert('RGB').crop((90, 0, 390, 200)).resize((90, 60), Image.LANCZOS)
grey = cat.convert('L')
alpha = Image.new('L', cat.size, 255)
alpha.paste(128, (0, 0, 45, 60))
cat.save(here / 'reference.png')
grey.save(here / 'reference-grey.png')

turned = Image.Exif()
turned[0x0112] = 6
cat.save(here / 'baseline.jpg', quality=95, subsampling=0)
cat.save(here / 'subsampled.jpg', quality=90, subsampling=2)
cat.save(here / 'progressive.jpg', quality=95, subsampling=0, progressive=True)
cat.save(here / 'restarts.jpg', quality=95, subsampling=0, restart_marker_blocks=3)
grey.save(here / 'grey.jpg', quality=95)
# Large pictures, to measure memory. They are black, so that the files are small.
large = here.parent / 'large'
Image.new('RGB', (2000, 1500)).save(large / 'progressive.jpg', subsampling=0, progressive=True)
# separate.jpg is made from that one by libjpeg-turbo's `jpegtran -copy none -scans FILE`, with `0; 1; 2;` in FILE.
Image.new('RGB', (2000, 1500)).save(large / 'turned.jpg', subsampling=0, exif=turned)
cat.convert('CMYK').save(here / 'cmyk.jpg', quality=95)
cat.quantize(256).save(here / 'palette.png')
Image.merge('RGBA', (*cat.split(), alpha)).save(here / 'rgba.png')
Image.merge('LA', (grey, alpha)).save(here / 'grey-alpha.png')
cat.save(here / 'lossless.webp', lossless=True)
cat.save(here / 'lossy.webp', quality=95)
Image.merge('RGBA', (*cat.split(), alpha)).save(here / 'alpha.webp', lossless=True, exact=True)
cat.save(here / 'rgb.bmp')
cat.quantize(256).save(here / 'palette.bmp')
other = ImageOps.invert(cat)
cat.quantize(256).save(here / 'animated.gif', save_all=True, append_images=[other.quantize(256)], duration=100)
cat.save(here / 'animated.webp', save_all=True, append_images=[other], duration=100, lossless=True)

pixels = np.asarray(cat).astype(int)
rows = lambda a: a.reshape(a.shape[0], -1).tolist()
def write(name, array, **how):
    with open(here / name, 'wb') as file:
        png.Writer(cat.width, cat.height, **how).write(file, rows(array))
write('rgb16.png', pixels * 257, greyscale=False, bitdepth=16)
write('interlaced.png', pixels, greyscale=False, bitdepth=8, interlace=True)
levels = np.asarray(grey).astype(int)
for depth in (1, 2, 4, 16):
    write(f'grey{depth}.png', (levels * (2 ** depth - 1) + 127) // 255, greyscale=True, bitdepth=depth)

# As from a camera: stored turned, with the orientation that turns them back.
turns = {1: None, 2: Image.FLIP_LEFT_RIGHT, 3: Image.ROTATE_180, 4: Image.FLIP_TOP_BOTTOM, 5: Image.TRANSPOSE,
         6: Image.ROTATE_90, 7: Image.TRANSVERSE, 8: Image.ROTATE_270}
for orientation, turn in turns.items():
    stored = cat if turn is None else cat.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(here / f'exif{orientation}.jpg', quality=95, subsampling=0, exif=exif)
    assert ImageOps.exif_transpose(Image.open(here / f'exif{orientation}.jpg')).size == cat.size
    stored.save(here / f'exif{orientation}.webp', exif=exif, lossless=True)
    if orientation == 6:
        stored.save(here / 'exif6.png', exif=exif)

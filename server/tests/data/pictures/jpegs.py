"""Writes the JPEGs of ../jpegs: every chroma subsampling, progression, scan order and restart interval, and what two
builds of libjpeg-turbo make of them and of 10,000 damaged ones.

Usage: jpegs.py (needs pillow, and cjpeg and djpeg of libjpeg-turbo: Debian's libjpeg-turbo-progs).

  jpegs.zlib    all files, one after the other, deflated
  jpegs.json    of each file: its name, its length, and the CRC-32 of its RGB pixels (Pillow's; null: no decoder of
                8-bit Huffman JPEGs reads it, so it must be refused)
  mutants.bin   of each damaged file: the CRC-32 of its RGB pixels (Pillow's), little-endian; 0 if `djpeg -strict`
                refuses it or warns. `mutant` says how a file is damaged; the test does the same.
"""
import io
import itertools
import json
import pathlib
import struct
import subprocess
import tempfile
import zlib
from PIL import Image

here = pathlib.Path(__file__).parent
out = here.parent / 'jpegs'
MUTANTS = 10_000

cat = Image.open(here.parent / 'cat.png').convert('RGB').crop((90, 0, 390, 200)).resize((37, 29), Image.LANCZOS)
ppm = io.BytesIO()
cat.save(ppm, 'PPM')
scratch = pathlib.Path(tempfile.mkdtemp())


def cjpeg(*options, scans=None):
    arguments = ['cjpeg', '-quality', '75', *options]
    if scans:
        (scratch / 'scans').write_text(scans)
        arguments += ['-scans', str(scratch / 'scans')]
    done = subprocess.run(arguments, input=ppm.getvalue(), capture_output=True)
    return done.stdout if done.returncode == 0 else None


def pixels(file):
    """RGB by Pillow."""
    return Image.open(io.BytesIO(file)).convert('RGB').tobytes()


def is_sound(file):
    """Whether djpeg finds nothing to warn of."""
    return subprocess.run(['djpeg', '-strict'], input=file, capture_output=True).returncode == 0


SEPARATE = '0; 1; 2;'
CHROMA_FIRST = '2; 1; 0;'
PAIRED = '0; 1 2;'
PROGRESSIONS = {
    'spectral': '0 1 2: 0-0, 0, 0; 0: 1-5, 0, 0; 1: 1-63, 0, 0; 2: 1-63, 0, 0; 0: 6-63, 0, 0;',
    'approximation': '0 1 2: 0-0, 0, 3; 0: 1-63, 0, 2; 1: 1-63, 0, 2; 2: 1-63, 0, 2; 0 1 2: 0-0, 3, 2; '
                     '0: 1-63, 2, 1; 1: 1-63, 2, 1; 2: 1-63, 2, 1; 0 1 2: 0-0, 2, 1; 0 1 2: 0-0, 1, 0; '
                     '0: 1-63, 1, 0; 1: 1-63, 1, 0; 2: 1-63, 1, 0;',
    'separate': '0: 0-0, 0, 0; 1: 0-0, 0, 0; 2: 0-0, 0, 0; 0: 1-63, 0, 0; 1: 1-63, 0, 0; 2: 1-63, 0, 0;',
    'bands': '0 1 2: 0-0, 0, 0; ' + ' '.join(f'{c}: {k}-{k + 8}, 0, 0;' for c in range(3) for k in range(1, 64, 9)),
    'dc-only': '0 1 2: 0-0, 0, 0;',
}

files = {}


def add(name, file):
    if file:
        files[name] = file


factors = [f'{h}x{v}' for h in (1, 2, 4) for v in (1, 2, 4)]
thirds = ['3x1,1x1,1x1', '1x3,1x1,1x1', '3x2,1x1,1x1', '3x1,3x1,1x1', '3x1,1x1,3x1', '1x1,3x1,3x1', '2x1,3x1,1x1',
          '3x1,2x1,1x1', '3x1,1x1,1x2']
samplings = [','.join(three) for three in itertools.product(factors, repeat=3)] + thirds
for sampling in samplings:
    baseline = cjpeg('-optimize', '-sample', sampling)
    add(f'baseline {sampling}', baseline)
    if baseline or sampling == '4x4,1x1,1x1':
        add(f'separate {sampling}', cjpeg('-optimize', '-sample', sampling, scans=SEPARATE))
        add(f'progressive {sampling}', cjpeg('-progressive', '-sample', sampling))
for sampling in ('1x1', '2x1', '1x2', '2x2', '4x1', '4x2'):
    for interval in ('1B', '3B', '1', '2'):
        how = ['-sample', sampling, '-restart', interval]
        add(f'restarts {interval} {sampling}', cjpeg('-optimize', *how))
        add(f'separate restarts {interval} {sampling}', cjpeg('-optimize', *how, scans=SEPARATE))
        add(f'progressive restarts {interval} {sampling}', cjpeg('-progressive', *how))
    for name, scans in PROGRESSIONS.items():
        add(f'progression {name} {sampling}', cjpeg('-sample', sampling, scans=scans))
    add(f'chroma first {sampling}', cjpeg('-optimize', '-sample', sampling, scans=CHROMA_FIRST))
    add(f'paired {sampling}', cjpeg('-optimize', '-sample', sampling, scans=PAIRED))
    add(f'arithmetic {sampling}', cjpeg('-arithmetic', '-sample', sampling))
    add(f'rgb {sampling}', cjpeg('-rgb', '-sample', sampling))
for options in ('', '-progressive', '-restart 1B', '-dct fast', '-baseline -quality 2'):
    add(f'grey {options}', cjpeg('-grayscale', *options.split()))
mutable = len(files)

# Changed by hand. The standard Huffman tables stand in a file without them.
plain = cjpeg('-sample', '2x2')
restarts = cjpeg('-sample', '2x2', '-restart', '1')


def segments(file, marker):
    """The positions and lengths of the segments with this marker."""
    at = 2
    while file[at + 1] != 0xda:
        length = 2 + int.from_bytes(file[at + 2:at + 4])
        if file[at + 1] == marker:
            yield at, length
        at += length


without_tables = plain
for at, length in reversed(list(segments(plain, 0xc4))):
    without_tables = without_tables[:at] + without_tables[at + length:]
frame = next(segments(plain, 0xc0))[0]
lines = b'\xff\xdc\x00\x04' + struct.pack('>H', cat.height)
without_height = plain[:frame + 5] + b'\0\0' + plain[frame + 7:]
third = cjpeg('-sample', '3x1,1x1,1x1')
at = next(segments(third, 0xc0))[0]
same = {
    'no Huffman tables': without_tables,
    'DNL with the same height': plain[:-2] + lines + plain[-2:],
    'DNL with the only height': without_height[:-2] + lines + plain[-2:],
    'no end marker': plain[:-2],
    'bytes after the end': plain + b'more',
    'bytes before the end': plain[:-2] + b'\0\0\0' + plain[-2:],
    'fill bytes': plain[:frame] + b'\xff\xff' + plain[frame:],
    'a comment': plain[:frame] + b'\xff\xfe\x00\x06\xff\xd9\xff\xda' + plain[frame:],
}
refused = {
    'no height': without_height,
    'lossless': plain[:frame + 1] + b'\xc3' + plain[frame + 2:],
    'hierarchical': plain[:frame + 1] + b'\xc5' + plain[frame + 2:],
    '12 bits': plain[:frame + 4] + b'\x0c' + plain[frame + 5:],
    'only tables': plain[:frame] + plain[-2:],
    'a missing restart marker': restarts.replace(b'\xff\xd0', b'', 1),
    'a missing part': plain[:len(plain) * 9 // 10] + b'\xff\xd9',
    'fractional sampling': third[:at + 14] + b'\x21' + third[at + 15:],
    'a scan less': cjpeg('-optimize', scans=SEPARATE).rsplit(b'\xff\xda', 1)[0] + b'\xff\xd9',
}
expected = {name: zlib.crc32(pixels(file)) for name, file in files.items() if 'arithmetic' not in name}
files |= same | refused
expected |= {name: zlib.crc32(pixels(plain)) for name in same}

cmyk = io.BytesIO()
cat.convert('CMYK').save(cmyk, 'JPEG', quality=75)
files['cmyk'] = cmyk.getvalue()
expected['cmyk'] = zlib.crc32(pixels(files['cmyk']))


def generator():
    """MINSTD (Park and Miller 1988)."""
    state = 1
    while True:
        state = state * 48271 % 0x7fffffff
        yield state


def mutant(file, random):
    kind, at = next(random) % 4, next(random) % len(file)
    if kind == 0:
        return file[:at]
    if kind == 1:
        return file[:at] + file[at + 1 + next(random) % 16:]
    file = bytearray(file)
    file[at] ^= 1 + next(random) % 255
    if kind == 3:
        at = next(random) % len(file)
        file[at] ^= 1 + next(random) % 255
    return bytes(file)


random = generator()
whole = [file for name, file in list(files.items())[:mutable] if name in expected]
mutants = bytearray()
for _ in range(MUTANTS):
    file = mutant(whole[next(random) % len(whole)], random)
    mutants += struct.pack('<I', zlib.crc32(pixels(file)) if is_sound(file) else 0)

out.mkdir(exist_ok=True)
(out / 'jpegs.zlib').write_bytes(zlib.compress(b''.join(files.values()), 9))
index = [[name, len(file), expected.get(name)] for name, file in files.items()]
(out / 'jpegs.json').write_text('[\n' + ',\n'.join(json.dumps(entry) for entry in index) + '\n]\n')
(out / 'mutants.bin').write_bytes(mutants)

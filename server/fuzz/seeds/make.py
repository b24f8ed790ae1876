"""Writes the seeds beside this file: the files of ../../tests/data in the form that each target takes, and a few more.

Usage: make.py. The top of a target's file in ../fuzz_targets tells the form.
"""
import io
import json
import pathlib
import pickletools
import struct
import zipfile
import zlib

here = pathlib.Path(__file__).parent
data = here.parent.parent / 'tests' / 'data'


def seed(target, name, content):
    folder = here / target
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)


# Opcodes that push one value.
def text(value):
    return b'X' + struct.pack('<I', len(value)) + value.encode()


def integer(value):
    return b'J' + struct.pack('<i', value)


def integers(*values):
    return b'(' + b''.join(map(integer, values)) + b't'


def call(module, name, *arguments):
    return f'c{module}\n{name}\n('.encode() + b''.join(arguments) + b'tR'


def storage(kind='FloatStorage', key='0', count=16, view=b''):
    return b'(' + text('storage') + f'ctorch\n{kind}\n'.encode() + text(key) + text('cpu') + integer(count) + view + b'tQ'


def tensor(*more, version='_rebuild_tensor_v2', source=None, offset=0, shape=(2, 3), strides=(3, 1)):
    source = source or storage()
    return call('torch._utils', version, source, integer(offset), integers(*shape), integers(*strides), *more)


def second(*more, **how):
    return tensor(b'\x89', call('collections', 'OrderedDict'), *more, **how)


def mapping(*items):
    return b'}(' + b''.join(items) + b'u'


def whole(value):
    return b'\x80\x02' + value + b'.'


pickles = {
    'dict': mapping(text('a'), second(), text('b'), second(offset=4, shape=(3,), strides=(2,))),
    'first-version': mapping(text('a'), tensor(version='_rebuild_tensor')),
    'third-version': mapping(text('a'), second(b'ctorch\nfloat16\n', version='_rebuild_tensor_v3',
                                               source=storage('UntypedStorage', count=64))),
    'parameter': mapping(text('a'), call('torch._utils', '_rebuild_parameter', second(), b'\x88', b'}')),
    'subclass': mapping(text('a'), call('torch._tensor', '_rebuild_from_type_v2', b'ctorch._utils\n_rebuild_tensor_v2\n',
                                        b'ctorch\nTensor\n', b'(' + storage() + integer(0) + integers(1) + integers(1)
                                        + b'\x89}t', b'}')),
    'metadata': mapping(text('a'), second(mapping(text('neg'), b'\x89'))),
    'view': mapping(text('a'), second(source=storage(view=b'(' + text('1') + integer(4) + integer(8) + b't'))),
    'expanded': mapping(text('a'), second(shape=(9, 2), strides=(0, 1))),
    'nested': mapping(text('a'), b'](' + second() + b'q\x01(h\x01h\x01te', integer(7), b'h\x01'),
    'pairs': call('collections', 'OrderedDict', b'](](' + text('a') + second() + b'ee'),
    'attributes': mapping(text('a'), second() + b'}b') + mapping(text('_metadata'), b'}') + b'b',
    'python2': b"(dS'it\\'s\\x41'\nV\\u00e9\nsU\x01\xff(lp0\nI01\naL12L\naF1.5\nag0\n0s",
    'scalars': b'(NG' + bytes(8) + b'\x8a\x02\x01\x02\x8b\x09\0\0\0' + bytes(9) + b'M\x01\x02K\x03\x88\x89t',
    'bytes': b'(C\x01aB\x01\0\0\0b\x8e\x01' + bytes(7) + b'c\x96\x01' + bytes(7) + b'd\x8f(K\x01\x90(K\x02\x91t',
    'objects': mapping(text('args'), b'cargparse\nNamespace\n)\x81}(' + text('lr') + second() + b'ub', text('a'), second(),
                       text('best'), call('numpy.core.multiarray', 'scalar', call('numpy', 'dtype', text('f8')) + b'}b', b'C\1a'),
                       text('config'), b'cmine\nConfig\n)}(' + text('x') + b'\x88u\x92(' + text('y') + second() + b'u',
                       text('step'), call('collections', 'defaultdict', b'cbuiltins\nlist\n')),
    'old-objects': mapping(text('a'), call('copy_reg', '_reconstructor', b'cmine\nMeter\n', b'c__builtin__\nobject\n', b'N'),
                           text('b'), b'(imine\nMeter\n', text('c'), b'(cmine\nMeter\n' + second() + b'o' + second() + b'a'),
    'strange': mapping(text('a'), call('torch._utils', '_rebuild_sparse_tensor', second()), text('b'), second()),
    'model': b'(' + text('module') + b'cnet\nNet\n' + text('net.py') + text('class Net') + b'tQ)\x81}b',
    'stack': text('collections') + text('OrderedDict') + b'\x93)\x81\x94)}\x92q\x010(ccollections\nOrderedDict\no(icollections\nOrderedDict\n0]\x94e',
}
for name, value in pickles.items():
    seed('pickle', name, whole(value))
# A part of each is repeated: pushes, containers, memo entries, copies, names.
for name, before, part, after in [
    ('lists', b'', b']', b''),
    ('tuples', b'', b'K\x01\x85', b''),
    ('filled-lists', b'', b']Na', b''),
    ('filled-dicts', b'', b'}NNs', b''),
    ('memo', b'', b'N\x94', b''),
    ('texts', b'', b'U\x01\xff', b''),
    ('copies', b'](' + b'NN\x86' * 9 + b'e\x94ccollections\nOrderedDict\n\x94', b'h\x01h\0\x85R', b''),
    ('tensors', mapping(text('a'), second()) + b'\x94](', b'h\0', b'e'),
]:
    for power in (4, 20):
        start = len(whole(before)) - 1
        content = whole(before + part + after)
        seed('pickle_repeated', f'{name}-{power}', bytes([power, start, len(part)]) + content)

for path in sorted(data.glob('variants-legacy-*.pth')):
    content = path.read_bytes()
    stream = io.BytesIO(content)
    list(pickletools.genops(stream))
    seed('legacy', path.stem.split('-')[-1], content[stream.tell():])
version, system = whole(b'M\xe9\x03'), whole(mapping(text('little_endian'), b'\x88'))
for name, value in pickles.items():
    keys = whole(b'](' + (text('0') if b'torch\n' in value else b'') + b'e')
    floats = struct.pack('<q', 16) + bytes(64)
    seed('legacy', name, version + system + whole(value) + keys + (floats if b'torch\n' in value else b''))


def record(name, content, oddities=0):
    return struct.pack('<BHB', len(name), len(content), oddities) + name.encode() + content


for path in sorted(data.glob('variants-zip-*.pth')):
    archive = zipfile.ZipFile(path)
    seed('zip', path.stem.split('-')[-1], b''.join(record(name, archive.read(name)) for name in archive.namelist()))
for oddity in range(8):
    records = record('a/data.pkl', whole(pickles['dict'])), record('a/data/0', bytes(64), 1 << oddity)
    seed('zip', f'oddity-{oddity}', record('a/byteorder', b'little') + b''.join(records))
seed('zip', 'changed', record('a/data.pkl', whole(b'}')) + b'\0' + b'\x0c\0\2')
seed('zip', 'script', record('a/constants.pkl', b'') + record('a/code/b.py', b''))

content = (data / 'variants.safetensors').read_bytes()
end = 8 + int.from_bytes(content[:8], 'little')
seed('safetensors', 'variants', content[8:end].rstrip() + b'\0' + content[end:])
entry = '{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}'
for name, dtype, shape, begin, end in [
    ('one', 'F32', '[1]', 0, 4), ('scalar', 'F64', '[]', 0, 8), ('empty', 'BF16', '[0,9]', 0, 0),
    ('other', 'F8_E4M3', '[1]', 0, 1), ('gap', 'U8', '[1]', 1, 2), ('more', 'I16', '[9,9]', 0, 4),
]:
    header = '{"__metadata__":{"format":"pt"},"a.b":%s}' % (entry % (dtype, shape, begin, end))
    seed('safetensors', name, header.encode() + b'\0' + bytes(end))

def stored(*records):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        for name, content in records:
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


archive = stored(('a/data.pkl', whole(pickles['dict'])), ('a/data/0', bytes(64)))
legacy = whole(b'\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19') + version + system + whole(b'}') + whole(b']')
for name, content in {
    'archive': archive, 'archive-twice': archive * 2, 'archive-and-more': archive + b'\n', 'before-archive': b'HTTP' + archive,
    'legacy-twice': legacy * 2,
    'empty': b'', 'page': b'<!DOCTYPE html><title>404 Not Found</title>', 'xml': b'<?xml version="1.0"?><Error><Message>No</Message></Error>',
    'json': b'{"error": "no"}', 'pointer': b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 105151288\n',
    'gzip': b'\x1f\x8b\x08', 'hdf5': b'\x89HDF\r\n\x1a\n', 'numpy': b'\x93NUMPY\x01\0', 'gguf': b'GGUF\x03\0',
    'tar': b'sys_info'.ljust(257, b'\0') + b'ustar', 'text': b'hello', 'zip': b'PK\x05\x06' + bytes(18),
    'decimal': b'L119547037146038801333356L\n.I1001\n.(d.', 'safetensors': (2).to_bytes(8, 'little') + b'{}',
    'legacy': legacy,
}.items():
    seed('state_dict', name, content)

seed('labels', 'coco', (data.parent.parent.parent / 'data' / 'coco_labels.txt').read_bytes())
for name, content in {
    'names': 'cat\ndog\n', 'windows': '\ufeffcat\r\ndog\r\n\r\n', 'fields': '1,1,person\n2,2,bicycle\n', 'voc': 'tvmonitor\nSofa\n',
    'background': '__background__\nperson\nN/A\ndog\n', 'numbers': '0 person\n1 dog\n', 'colons': '1: person\n13: dog\n',
    'quotes': '"person"\n\'dog\'\n', 'array': '["person", "N/A", "dog"]', 'by-number': '{"0": "person", "2": "dog"}',
    'by-name': '{"dog": 2, "person": 1}', 'pbtxt': 'item {\n  id: 1\n  display_name: "person"\n}\n', 'yaml': 'names:\n  0: person\n',
    'twice': 'cat\ncat\n', 'order': '1,2,person\n', 'blank': 'cat\n\ndog\n', 'control': 'c\u001bat\n', 'four': '1,1,a,b\n',
}.items():
    seed('labels', name, content.encode())

small = [
    'grey1.png', 'grey2.png', 'grey4.png', 'palette.png', 'reference-grey.png', 'baseline.jpg', 'progressive.jpg', 'subsampled.jpg', 'grey.jpg',
    'exif6.jpg', 'lossy.webp', 'lossless.webp', 'exif6.webp', 'palette.bmp',
]
for name in small:
    seed('picture', name, (data / 'pictures' / name).read_bytes())
kinds = {
    'separate 2x2,1x1,1x1': 'separate.jpg', 'progression approximation 2x2': 'approximation.jpg', 'restarts 3B 2x2': 'restarts.jpg',
    'no Huffman tables': 'no-tables.jpg', 'DNL with the only height': 'dnl.jpg', 'cmyk': 'cmyk.jpg', 'baseline 1x1,2x1,2x1': 'sampling.jpg',
}
jpegs = io.BytesIO(zlib.decompress((data / 'jpegs' / 'jpegs.zlib').read_bytes()))
for kind, length, _ in json.loads((data / 'jpegs' / 'jpegs.json').read_text()):
    content = jpegs.read(length)
    if kind in kinds:
        seed('picture', kinds[kind], content)
# An animation of two pictures of four pixels, and a bitmap of one.
gif = b'GIF89a\2\0\2\0\x80\0\0\0\0\0\xff\xff\xff' + (b'!\xf9\4\0\0\0\0\0,\0\0\0\0\2\0\2\0\0\2\2\x84Q\0') * 2 + b';'
bmp = b'BM:\0\0\0\0\0\0\0006\0\0\0' + struct.pack('<IiiHHIIiiII', 40, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0) + bytes(4)
seed('picture', 'animation.gif', gif)
seed('picture', 'bitmap.bmp', bmp)

"""Writes the checkpoints that the tests in server/state-dict read. Usage: make_checkpoints.py (needs torch 2.15 and numpy).

checkpoint-*.pth   what training scripts save beside a state dict: objects of many classes, none of which is a tensor
whole-*.pth        whole models, as `torch.save(model)` writes them
"""
import argparse, collections, datetime, enum, functools, pathlib
import numpy
import torch

here = pathlib.Path(__file__).parent


class Phase(enum.Enum):
    TRAIN = 1


class Config(dict):
    """A dict with attributes, as many configuration libraries have it."""


class Meter:
    def __init__(self, tensor):
        self.history, self.total = collections.deque([tensor], maxlen=3), numpy.float32(0.5)


def checkpoint():
    model = torch.nn.Sequential(collections.OrderedDict(conv=torch.nn.Conv2d(1, 2, 1)))
    with torch.no_grad():
        model.conv.bias.copy_(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    model(torch.ones(1, 1, 1, 1)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        model.conv.bias.copy_(torch.tensor([1.0, 2.0]))
    config = Config(model='ssd', hidden=torch.ones(1))
    config.path = pathlib.PurePosixPath('/runs/1')
    by_layer = collections.defaultdict(dict)
    by_layer['conv']['scale'] = torch.tensor(2.0)
    return {
        'args': argparse.Namespace(lr=0.1, output=pathlib.PurePosixPath('/runs'), resume=None, hidden=torch.ones(2)),
        'best': numpy.float64(0.75),
        'random': ('MT19937', numpy.array([1, 2, 3], dtype=numpy.uint32), 624, 0, 0.0),
        'started': datetime.datetime(2026, 11, 29, 12, 0, tzinfo=datetime.timezone.utc),
        'elapsed': datetime.timedelta(minutes=3),
        'phase': Phase.TRAIN,
        'meter': Meter(torch.ones(3)),
        'config': config,
        'collate': functools.partial(dict, pin=torch.ones(4)),
        'range': range(3),
        'number': complex(1, 2),
        'sizes': [slice(1, 2), bytearray(b'ab')],
        'classes': frozenset({'cat'}),
        'counts': collections.Counter('aab'),
        'device': torch.device('cpu'),
        'generator': torch.random.get_rng_state()[:4].numpy(),
        'model': model.state_dict(),
        'optimizer': optimizer.state_dict(),
        'lr_scheduler': scheduler.state_dict(),
        'by_layer': by_layer,
    }


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))


torch.manual_seed(7)
state = checkpoint()
for protocol in (1, 2):
    path = here / f'checkpoint-legacy-protocol{protocol}.pth'
    torch.save(state, path, _use_new_zipfile_serialization=False, pickle_protocol=protocol)
for protocol in (2, 5):
    torch.save(state, here / f'checkpoint-zip-protocol{protocol}.pth', pickle_protocol=protocol)
torch.save(Net(), here / 'whole-zip.pth')
torch.save(Net(), here / 'whole-legacy.pth', _use_new_zipfile_serialization=False)

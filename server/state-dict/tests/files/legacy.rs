//! The format before `PyTorch` 1.6, in the dialects of 2017 and in forms that no recent `PyTorch` writes.

use state_dict::Format;

use super::build::*;
use super::{assert_refused, read};

/// What `PyTorch` 0.2 wrote under Python 2.7 on a GPU: `SHORT_BINSTRING`, `_rebuild_tensor`,
/// `torch.cuda` storages, views, and an `OrderedDict` given its items as a list of lists.
fn file_of_2017() -> Vec<u8> {
    let storage = |view: Value| {
        let id = [
            python2_text("storage"),
            global("torch.cuda", "FloatStorage"),
            python2_text("94040"),
            python2_text("cuda:0"),
            int(6),
            view,
        ];
        [tuple(&id), b"Q".to_vec()].concat()
    };
    let rebuild = |storage, offset, shape: &[i64], strides: &[i64]| {
        call(
            "torch._utils",
            "_rebuild_tensor",
            &[storage, int(offset), ints(shape), ints(strides)],
        )
    };
    let whole = rebuild(storage(NONE.to_vec()), 0, &[2, 3], &[3, 1]);
    let view = rebuild(
        storage(tuple(&[python2_text("94041"), int(2), int(4)])),
        1,
        &[3],
        &[1],
    );
    let items = list(&[
        list(&[python2_text("vgg.0.weight"), whole]),
        list(&[python2_text("vgg.0.bias"), view]),
    ]);
    let object = call("collections", "OrderedDict", &[items]);
    let floats = floats_bytes(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let mut file = [
        magic(),
        pickle(b"M\xe9\x03"),
        pickle(&dict(&[(python2_text("little_endian"), vec![0x88])])),
        pickle(&object),
        pickle(&list(&[python2_text("94040")])),
    ]
    .concat();
    file.extend(6_i64.to_le_bytes());
    file.extend(floats);
    file
}

#[test]
fn the_dialect_of_2017_is_read() {
    let weights = read(file_of_2017());
    let names: Vec<_> = weights.tensors().map(|tensor| tensor.name()).collect();
    assert_eq!(names, ["vgg.0.weight", "vgg.0.bias"]);
    let whole = weights.get("vgg.0.weight").unwrap();
    assert_eq!(whole.shape(), [2, 3]);
    assert_eq!(whole.to_f32(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    // The view begins at element 2, and the tensor one element later.
    assert_eq!(weights.get("vgg.0.bias").unwrap().to_f32(), [3.0, 4.0, 5.0]);
}

#[test]
fn the_dialect_of_2017_is_recognised() {
    let weights = read(file_of_2017());
    let Format::PthLegacy(dialect) = weights.format() else {
        panic!("{}", weights.format())
    };
    assert!(
        dialect.python2_strings && dialect.rebuild_tensor_v1 && dialect.cuda,
        "{dialect:?}"
    );
    assert_eq!(dialect.protocol, 2);
    assert_eq!(
        weights.format().to_string(),
        "pth (format before PyTorch 1.6, PyTorch 0.2-0.3 dialect, Python 2 strings, saved on a GPU)"
    );
}

#[test]
fn every_storage_class_of_cpu_and_gpu_is_read() {
    for (class, name, size) in [
        ("DoubleStorage", "float64", 8),
        ("FloatStorage", "float32", 4),
        ("HalfStorage", "float16", 2),
        ("BFloat16Storage", "bfloat16", 2),
        ("LongStorage", "int64", 8),
        ("IntStorage", "int32", 4),
        ("ShortStorage", "int16", 2),
        ("CharStorage", "int8", 1),
        ("ByteStorage", "uint8", 1),
        ("BoolStorage", "bool", 1),
    ] {
        for module in ["torch", "torch.cuda"] {
            let id = [
                text("storage"),
                global(module, class),
                text("0"),
                text("cpu"),
                int(2),
                NONE.to_vec(),
            ];
            let pickled = tensor([tuple(&id), b"Q".to_vec()].concat(), 0, &[2], &[1]);
            let bytes = vec![0; 2 * size];
            let weights = read(legacy_file(
                &dict(&[(text("x"), pickled)]),
                &[("0", 2, bytes)],
            ));
            let tensor = weights.get("x").unwrap();
            assert_eq!(tensor.dtype().name(), name);
            assert_eq!(tensor.to_f32(), [0.0, 0.0], "{module}.{class}");
        }
    }
}

#[test]
fn protocol_0_text_opcodes_are_read() {
    // INT, LONG, FLOAT, STRING, UNICODE, DICT, LIST, PUT and GET; a persistent id needs at least
    // protocol 1.
    let size = b"(I3\nt";
    let id = [
        b"(S'storage'\np0\nctorch\nFloatStorage\n".as_slice(),
        b"V0\nS\"cpu\"\nL3L\nNtQ",
    ]
    .concat();
    let hooks = call("collections", "OrderedDict", &[]);
    let rebuild = global("torch._utils", "_rebuild_tensor_v2");
    let tensor = [
        &*rebuild,
        b"(",
        &id,
        b"I0\n",
        size,
        b"(I1\ntI00\n",
        &hooks,
        b"tR",
    ]
    .concat();
    let object = [
        b"(Vx\\u00e9\n".as_slice(),
        &tensor,
        b"S'lr'\nF0.5\ng0\n(I1\nI2\nld",
    ]
    .concat();
    let keys = b"(lp0\nS'0'\na";
    let mut file = [
        b"L119547037146038801333356L\n.I1001\n.".as_slice(),
        b"(S'little_endian'\nI01\nd.",
        &object,
        b".",
        keys,
        b".",
    ]
    .concat();
    file.extend(3_i64.to_le_bytes());
    file.extend(floats_bytes(&[1.0, 2.0, 3.0]));
    let weights = read(file);
    assert_eq!(weights.get("xé").unwrap().to_f32(), [1.0, 2.0, 3.0]);
}

#[test]
fn a_parameter_is_its_tensor() {
    let one = || tensor(storage("FloatStorage", "0", 2), 0, &[2], &[1]);
    let hooks = || call("collections", "OrderedDict", &[]);
    // As PyTorch 0.4 and later, and as 0.2 and 0.3 (NEWOBJ, then BUILD with requires_grad,
    // volatile, hooks).
    let rebuilt = call(
        "torch._utils",
        "_rebuild_parameter",
        &[one(), vec![0x88], hooks()],
    );
    let class = global("torch.nn.parameter", "Parameter");
    let state = tuple(&[vec![0x88], vec![0x89], hooks()]);
    let built = [class, tuple(&[one()]), vec![0x81], state, b"b".to_vec()].concat();
    let object = dict(&[(text("new"), rebuilt), (text("old"), built)]);
    let weights = read(legacy_floats(&object, &[1.0, 2.0]));
    assert_eq!(weights.get("new").unwrap().to_f32(), [1.0, 2.0]);
    assert_eq!(weights.get("old").unwrap().to_f32(), [1.0, 2.0]);
}

#[test]
fn attributes_of_an_ordered_dict_are_not_tensors() {
    let one = || tensor(storage("FloatStorage", "0", 2), 0, &[2], &[1]);
    let state = dict(&[(text("_metadata"), dict(&[(text("hidden"), one())]))]);
    let object = [ordered_dict(&[(text("x"), one())]), state, b"b".to_vec()].concat();
    let weights = read(legacy_floats(&object, &[1.0, 2.0]));
    assert_eq!(weights.len(), 1);
    assert!(weights.get("x").is_some());
}

#[test]
fn tied_tensors_share_their_storage() {
    let one = || tensor(storage("FloatStorage", "0", 4), 0, &[2, 2], &[2, 1]);
    let weights = read(legacy_floats(
        &dict(&[(text("a"), one()), (text("b"), one())]),
        &[1.0, 2.0, 3.0, 4.0],
    ));
    let (a, b) = (weights.get("a").unwrap(), weights.get("b").unwrap());
    assert_eq!(a.to_bytes().as_ptr(), b.to_bytes().as_ptr());
}

#[test]
fn a_big_endian_file_is_refused() {
    let object = pickle(&dict(&[]));
    let file = [
        magic(),
        pickle(&int(1001)),
        pickle(&system_info(false)),
        object,
        pickle(b"]"),
    ]
    .concat();
    assert_refused(file, &["big-endian"]);
}

#[test]
fn another_version_of_the_format_is_refused() {
    let file = [magic(), pickle(&int(1002))].concat();
    assert_refused(file, &["at byte 15", "1001 is expected", "1002"]);
}

#[test]
fn a_file_without_a_dict_is_refused() {
    assert_refused(
        legacy_file(&int(3), &[]),
        &["the integer 3", "state_dict()"],
    );
    let tensor = tensor(storage("FloatStorage", "0", 1), 0, &[1], &[1]);
    assert_refused(
        legacy_floats(&tensor, &[1.0]),
        &["a tensor", "state_dict()"],
    );
}

#[test]
fn a_state_dict_without_tensors_is_empty() {
    assert!(read(legacy_file(&dict(&[(text("epoch"), int(3))]), &[])).is_empty());
}

#[test]
fn the_list_of_storages_must_have_the_object_s_storages() {
    let object = dict(&[(
        text("x"),
        tensor(storage("FloatStorage", "0", 1), 0, &[1], &[1]),
    )]);
    let one = || ("0", 1, floats_bytes(&[1.0]));
    assert_refused(
        legacy_file(&object, &[]),
        &["`0`", "not in the file's list"],
    );
    assert_refused(legacy_file(&object, &[one(), one()]), &["`0`", "twice"]);
    assert_refused(
        legacy_file(&object, &[one(), ("\n", 1, vec![0; 4])]),
        &["`\\n`", "no tensor uses it"],
    );
    assert_refused(
        legacy_file(&object, &[("0", 2, vec![0; 8])]),
        &["`0`", "2 elements", "the pickle says 1"],
    );
    assert_refused(
        legacy_file(&object, &[("0", -1, vec![0; 8])]),
        &["`0`", "-1 elements"],
    );
}

#[test]
fn a_storage_with_two_descriptions_is_refused() {
    let one = tensor(storage("FloatStorage", "0", 1), 0, &[1], &[1]);
    let other = tensor(storage("FloatStorage", "0", 2), 0, &[1], &[1]);
    let object = dict(&[(text("a"), one), (text("b"), other)]);
    assert_refused(
        legacy_floats(&object, &[1.0]),
        &["`0`", "different lengths"],
    );
}

#[test]
fn two_tensors_of_one_name_are_refused() {
    let one = || tensor(storage("FloatStorage", "0", 1), 0, &[1], &[1]);
    let object = dict(&[
        (text("a.b"), one()),
        (text("a"), dict(&[(text("b"), one())])),
    ]);
    assert_refused(
        legacy_floats(&object, &[1.0]),
        &["`a.b`", "two tensors have this name"],
    );
}

#[test]
fn tensors_that_are_not_dense_are_refused() {
    let metadata = dict(&[(text("conj"), vec![0x88])]);
    let object = dict(&[(text("x"), tensor_with_metadata(metadata))]);
    assert_refused(
        legacy_floats(&object, &[1.0]),
        &["`conj` bit", "resolve_conj()"],
    );
    let sparse = || call("torch._utils", "_rebuild_sparse_tensor", &[]);
    let in_a_dict = dict(&[(text("x"), sparse())]);
    for object in [sparse(), in_a_dict] {
        assert_refused(
            legacy_file(&object, &[]),
            &[
                "`torch._utils._rebuild_sparse_tensor`",
                "Only dense tensors",
            ],
        );
    }
}

//! Files made to do harm: to run code, to exhaust memory, time or the stack, to read outside the file.

use super::build::*;
use super::{assert_object, assert_refused, read};

/// A file of either `.pth` format around a pickled object, and the pickle alone.
fn files(object: &[u8]) -> [Vec<u8>; 3] {
    let mut records = zip_records();
    records[0] = record("a/data.pkl", pickle(object));
    [legacy_file(object, &[]), zip_file(&records), pickle(object)]
}

/// Every form in which a pickle can name code and have it called.
fn calls_of_code(module: &str, name: &str) -> Vec<Value> {
    let command = || text("touch /tmp/pwned");
    let by_stack = [text(module), text(name), vec![0x93]].concat();
    let keywords = dict(&[(text("shell"), vec![0x88])]);
    vec![
        call(module, name, &[command()]),
        [&*by_stack, &tuple(&[command()]), b"R"].concat(),
        [&*by_stack, &command(), b"R"].concat(),
        by_stack,
        [b"(", &*command(), format!("i{module}\n{name}\n").as_bytes()].concat(),
        [b"(", &*global(module, name), &command(), b"o"].concat(),
        [&*global(module, name), &tuple(&[]), b"\x81"].concat(),
        [&*global(module, name), &tuple(&[]), &keywords, b"\x92"].concat(),
        call("copyreg", "_reconstructor", &[global(module, name)]),
    ]
}

#[test]
fn calls_of_code_are_not_run_and_a_file_with_nothing_else_is_refused_by_their_name() {
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("torch.hub", "load"),
    ] {
        let global = format!("{module}.{name}");
        for object in calls_of_code(module, name) {
            let [legacy, zip, plain] = files(&object);
            assert_object(legacy, &global);
            assert_object(zip, &global);
            assert_refused(plain, &[&format!("`{global}`"), "torch.save did not write"]);
            let hidden = dict(&[(text("x"), list(&[tuple(&[object])]))]);
            let [legacy, zip, _] = files(&hidden);
            assert_object(legacy, &global);
            assert_object(zip, &global);
        }
    }
}

#[test]
fn calls_of_code_beside_tensors_are_named_and_change_nothing() {
    for object in calls_of_code("os", "system") {
        let attributes = [&*dict(&[]), &object, b"b"].concat();
        let popped = [&*object, b"0", &int(1)].concat();
        let keyed = dict(&[(object.clone(), int(1))]);
        let member = [b"\x8f(", &*object, b"\x90"].concat();
        for hidden in [object, attributes, popped, keyed, member] {
            let tensor = tensor(storage("FloatStorage", "0", 2), 0, &[2], &[1]);
            let whole = dict(&[(text("args"), hidden), (text("x"), tensor)]);
            let weights = read(legacy_floats(&whole, &[1.0, 2.0]));
            assert_eq!(weights.len(), 1);
            assert_eq!(weights.get("x").unwrap().to_f32(), [1.0, 2.0]);
            let skipped = weights.skipped().to_string();
            assert!(
                skipped.contains("nothing was run: ") && skipped.contains("`os.system`"),
                "{skipped}"
            );
        }
    }
}

#[test]
fn names_that_only_the_writer_could_resolve_are_refused() {
    for extension in [b"\x82\x01".as_slice(), b"\x83\x01\0", b"\x84\x01\0\0\0"] {
        for file in files(extension) {
            assert_refused(file, &["an extension code of copyreg"]);
        }
    }
    for file in files(b"c\xff\nx\n") {
        assert_refused(file, &["not UTF-8"]);
    }
}

#[test]
fn a_storage_of_an_unknown_type_is_refused_by_its_name() {
    for (module, class) in [("os", "system"), ("torch", "ComplexFloatStorage")] {
        let id = [
            text("storage"),
            global(module, class),
            text("0"),
            text("cpu"),
            int(1),
        ];
        let object = [&*tuple(&id), b"Q"].concat();
        for file in files(&object) {
            assert_refused(file, &[&format!("a storage's type is `{module}.{class}`")]);
        }
    }
}

#[test]
fn a_name_behind_dots_is_not_a_name_on_the_list() {
    let dotted = [text("torch"), text("hub.load"), vec![0x93]].concat();
    assert_object(legacy_file(&dotted, &[]), "torch.hub.load");
    let prefixed = [
        text("torch._utils"),
        text("x._rebuild_tensor_v2"),
        vec![0x93],
    ]
    .concat();
    assert_object(
        legacy_file(&prefixed, &[]),
        "torch._utils.x._rebuild_tensor_v2",
    );
}

#[test]
fn a_name_with_control_characters_is_escaped_and_a_long_one_refused() {
    let global = b"cos\x1b[2J\nsys\rtem\n";
    for file in files(global) {
        assert_refused(file, &["`os\\u{1b}[2J.sys\\rtem`"]);
    }
    assert_object(
        legacy_file(&global_of_length(256), &[]),
        &format!("{}…", "m".repeat(80)),
    );
    for file in files(&global_of_length(257)) {
        assert_refused(file, &["a global's name has 257 bytes; the limit is 256"]);
    }
}

fn global_of_length(length: usize) -> Value {
    global(&"m".repeat(length), "n")
}

#[test]
fn many_unknown_names_are_refused_or_read_quickly() {
    let one = |name: &str| [global("module", name), b"0".to_vec()].concat();
    let names: Vec<_> = (0..100_000).map(|name| one(&format!("{name}"))).collect();
    let x = tensor(storage("FloatStorage", "0", 1), 0, &[1], &[1]);
    let object = [names.concat(), dict(&[(text("x"), x)])].concat();
    let weights = read(legacy_floats(&object, &[1.0]));
    let skipped = weights.skipped().to_string();
    assert!(
        skipped.ends_with("`module.8`, `module.9` and others"),
        "{skipped}"
    );
}

#[test]
fn values_that_are_not_functions_cannot_be_called() {
    for function in [
        text("os"),
        int(1),
        dict(&[]),
        storage("FloatStorage", "0", 0),
    ] {
        let object = [function, tuple(&[text("ls")]), b"R".to_vec()].concat();
        assert_refused(legacy_file(&object, &[]), &["which is not a function"]);
    }
}

/// Twenty levels, each of ten references to the one before: 10^20 paths to 10 values.
fn laughs(wrap: impl Fn(&[u8]) -> Value) -> Value {
    let mut object = [list(&[]), b"q\0".to_vec()].concat();
    for level in 0..20_u8 {
        let ten = [b'h', level].repeat(10);
        object = [object, b"0".to_vec(), wrap(&ten), vec![b'q', level + 1]].concat();
    }
    object
}

#[test]
fn a_billion_laughs_of_lists_are_refused() {
    let object = laughs(|ten| [b"](", ten, b"e"].concat());
    assert_refused(legacy_file(&object, &[]), &["more than 2097152 values"]);
}

#[test]
fn a_billion_laughs_of_tuples_are_refused() {
    let object = laughs(|ten| [b"(", ten, b"t"].concat());
    assert_refused(legacy_file(&object, &[]), &["more than 2097152 values"]);
}

#[test]
fn a_billion_laughs_of_dicts_are_refused() {
    let object = laughs(|ten| [b"}(", ten, b"u"].concat());
    assert_refused(legacy_file(&object, &[]), &["more than 2097152 values"]);
}

#[test]
fn a_billion_laughs_of_copies_are_refused() {
    // A list of 100,000 pairs, and 1,000 dicts made of it.
    let pairs = tuple(&[int(1), int(2)]);
    let items = [
        pairs,
        b"q\0".to_vec(),
        b"0](".to_vec(),
        b"h\0".repeat(100_000),
        b"eq\x01".to_vec(),
    ]
    .concat();
    let copies = [
        call("collections", "OrderedDict", &[b"h\x01".to_vec()]),
        b"0".to_vec(),
    ]
    .concat()
    .repeat(1000);
    let object = [items, b"0".to_vec(), copies, dict(&[])].concat();
    assert_refused(
        legacy_file(&object, &[]),
        &["more than 262144 items are copied"],
    );
}

#[test]
fn tensors_shared_a_billion_times_are_refused() {
    let one = tensor(storage("FloatStorage", "0", 1), 0, &[1], &[1]);
    let mut object = [one, b"q\0".to_vec()].concat();
    for level in 0..20_u8 {
        let ten = [b'h', level].repeat(10);
        object = [object, b"0](".to_vec(), ten, vec![b'e', b'q', level + 1]].concat();
    }
    assert_refused(legacy_floats(&object, &[1.0]), &["more than 65536 tensors"]);
}

#[test]
fn containers_that_contain_themselves_are_refused() {
    let list = b"]q\0(h\0h\0e";
    let dict = [b"}q\0".to_vec(), text("self"), b"h\0s".to_vec()].concat();
    for object in [list.to_vec(), dict] {
        assert_refused(legacy_file(&object, &[]), &["nested deeper than 64"]);
    }
}

#[test]
fn a_hundred_thousand_nested_containers_do_not_overflow_the_stack() {
    let count = 100_000;
    let lists = [b"]".repeat(count + 1), b"a".repeat(count)].concat();
    let tuples = [b")".to_vec(), b"\x85".repeat(count)].concat();
    let half = count / 2;
    let dicts = [b"}".to_vec(), b"K\x01}".repeat(half), b"s".repeat(half)].concat();
    for object in [lists, tuples, dicts] {
        assert_refused(legacy_file(&object, &[]), &["nested deeper than 64"]);
    }
    assert_refused(legacy_file(&b"(".repeat(count), &[]), &["empty stack"]);
}

#[test]
fn nested_calls_do_not_overflow_the_stack() {
    // _rebuild_from_type_v2(_rebuild_from_type_v2, None, (_rebuild_from_type_v2, None, ...), None)
    let function = [
        global("torch._tensor", "_rebuild_from_type_v2"),
        b"q\0".to_vec(),
    ]
    .concat();
    let arguments = [b"(h\0N".repeat(40_000), b")".to_vec(), b"Nt".repeat(40_000)].concat();
    let object = [function, arguments, b"R".to_vec()].concat();
    assert_refused(
        legacy_file(&object, &[]),
        &["RebuildFromType cannot be called"],
    );
}

#[test]
fn millions_of_opcodes_are_refused() {
    assert_refused(
        legacy_file(&b"N0".repeat(3_000_000), &[]),
        &["opcodes, the limit"],
    );
}

#[test]
fn declared_lengths_are_compared_with_the_file_before_anything_is_allocated() {
    for opcodes in [
        b"\x8b\xff\xff\xff\x7f".as_slice(),      // LONG4
        b"X\xff\xff\xff\xff",                    // BINUNICODE
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", // BINUNICODE8
        b"T\xff\xff\xff\x7f",                    // BINSTRING
        b"B\xff\xff\xff\xff",                    // BINBYTES
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff", // BINBYTES8
        b"\x96\xff\xff\xff\xff\xff\xff\xff\xff", // BYTEARRAY8
        b"\x95\xff\xff\xff\xff\xff\xff\xff\xff", // FRAME
    ] {
        let [legacy, zip, plain] = files(opcodes);
        assert_refused(legacy, &["cut short"]);
        assert_refused(zip, &["are left"]);
        assert_refused(plain, &["cut short"]);
    }
    for negative in [b"\x8b\xff\xff\xff\xff".as_slice(), b"T\xff\xff\xff\xff"] {
        for file in files(negative) {
            assert_refused(file, &["-1 bytes"]);
        }
    }
}

#[test]
fn malformed_pickles_are_refused_at_their_offset() {
    for (opcodes, words) in [
        (b"0".as_slice(), "empty stack"),
        (b"t", "a MARK is expected"),
        (b"N(0t", "a MARK is expected"),
        (b"(Na", "empty stack"),
        (b"NNa", "not to a list"),
        (b"NNNs", "not in a dict"),
        (b"(N\x90", "empty stack"),
        (b"N(N\x90", "not to a set"),
        (b"(Nd", "has no value"),
        (b"h\x07", "memo entry 7 is read before"),
        (b"g-1\n", "`-1` is not a valid memo number"),
        (
            b"p99999999999\n",
            "`99999999999` is not a valid memo number",
        ),
        (b"p7\n", "empty stack"),
        (b"NN\x93", "not named by two strings"),
        (b"NN\x81", "not a tuple"),
        (b"NQ", "not a tuple"),
        (b")Q", "without a description"),
        (b"P1\n", "PERSID"),
        (b"I12x\n", "an integer is expected"),
        (b"S'abc\n", "a string literal is expected"),
        (b"X\x01\0\0\0\xff", "text is expected"),
        (b"V\\ud800\n", "text is expected"),
        (b"\x80\x06", "protocol 6"),
        (b"\x97", "opcode 0x97"),
        (b"\xff", "opcode 0xff"),
        (b"NNb", "attributes are set on None"),
    ] {
        for file in files(opcodes) {
            // The error has an offset inside the object.
            assert_refused(file, &["at byte ", words]);
        }
    }
}

#[test]
fn storages_of_absurd_sizes_are_refused() {
    for (count, words) in [
        (-1, "the integer -1"),
        (i64::MIN, "the integer -9223372036854775808"),
        (i64::MAX, "a storage of 9223372036854775807 elements"),
        (i64::MAX / 4, "cut short"),
        (1 << 40, "needs at least 4398046"),
    ] {
        let object = dict(&[(
            text("x"),
            tensor(storage("FloatStorage", "0", count), 0, &[1], &[1]),
        )]);
        assert_refused(legacy_file(&object, &[("0", count, vec![0; 16])]), &[words]);
    }
    for (count, words) in [
        (b"\x8a\x01\xff".as_slice(), "the integer -1"),
        (
            b"\x8a\x09\0\0\0\0\0\0\0\0\x01",
            "an integer of more than 64 bits",
        ),
    ] {
        let id = [
            text("storage"),
            global("torch", "FloatStorage"),
            text("0"),
            text("cpu"),
            count.to_vec(),
        ];
        let object = [tuple(&id), b"Q".to_vec()].concat();
        assert_refused(legacy_file(&object, &[]), &[words]);
    }
}

#[test]
fn many_storages_whose_sizes_overflow_together_are_refused() {
    let count = i64::MAX / 4;
    let names = ["a", "b", "c", "d", "e"];
    let pairs: Vec<_> = names
        .iter()
        .map(|name| {
            (
                text(name),
                tensor(storage("FloatStorage", name, count), 0, &[1], &[1]),
            )
        })
        .collect();
    let storages: Vec<_> = names
        .iter()
        .map(|name| (*name, count, vec![0; 4]))
        .collect();
    assert_refused(legacy_file(&dict(&pairs), &storages), &["cut short"]);
}

#[test]
fn views_outside_their_storage_are_refused() {
    for (offset, count, words) in [
        (0, 5, "a view of 5 elements"),
        (4, 1, "from element 4"),
        (i64::MAX, i64::MAX, "a view of"),
        (-1, 1, "a view's offset is the integer -1"),
        (0, -1, "a view's size is the integer -1"),
    ] {
        let view = tuple(&[text("1"), int(offset), int(count)]);
        let object = dict(&[(
            text("x"),
            tensor(storage_view("FloatStorage", "0", 4, view), 0, &[1], &[1]),
        )]);
        assert_refused(legacy_floats(&object, &[0.0; 4]), &[words]);
    }
    // The tensor fits the storage, but not the view.
    let view = tuple(&[text("1"), int(1), int(2)]);
    let object = dict(&[(
        text("x"),
        tensor(storage_view("FloatStorage", "0", 4, view), 0, &[3], &[1]),
    )]);
    assert_refused(
        legacy_floats(&object, &[0.0; 4]),
        &["`x`", "outside its storage", "2 elements available"],
    );
}

#[test]
fn tensors_outside_their_storage_are_refused() {
    let max = i64::MAX;
    for (offset, shape, strides, words) in [
        (0, [13].as_slice(), [1].as_slice(), "outside its storage"),
        (12, &[1], &[1], "outside its storage"),
        (12, &[], &[], "outside its storage"),
        (max, &[1], &[1], "outside its storage"),
        (1, &[3, 4], &[4, 1], "outside its storage"),
        (0, &[2], &[max], "outside its storage"),
        (max, &[2], &[max], "outside its storage"),
        (0, &[3], &[max], "strides"),
        (0, &[2, 2, 2], &[max, max, max], "strides"),
        (-1, &[1], &[1], "its offset is the integer -1"),
        (0, &[-1], &[1], "its shape contains the integer -1"),
        (0, &[2], &[-1], "its strides contains the integer -1"),
        (0, &[1, 2], &[1], "its shape has 2 axes"),
        (0, &[max, max], &[1, 1], "more than the limit of 16 times"),
    ] {
        assert_refused(legacy_with(offset, shape, strides), &["tensor `x`", words]);
    }
}

#[test]
fn tensors_of_more_than_64_axes_are_refused() {
    assert_eq!(
        read(legacy_with(0, &[1; 64], &[1; 64]))
            .get("x")
            .unwrap()
            .to_f32(),
        [0.0]
    );
    assert_refused(
        legacy_with(0, &[1; 65], &[1; 65]),
        &["tensor `x`", "65 axes", "the limit is 64"],
    );
}

#[test]
fn expanded_tensors_of_absurd_shapes_are_refused_before_anything_is_allocated() {
    for shape in [[1 << 40].as_slice(), &[1 << 20, 1 << 20], &[1 << 25]] {
        let strides = vec![0; shape.len()];
        assert_refused(
            legacy_with(0, shape, &strides),
            &[
                "tensor `x`",
                "more than the limit of 16 times the file's size",
            ],
        );
    }
    assert_eq!(
        read(legacy_with(3, &[1 << 20], &[0]))
            .get("x")
            .unwrap()
            .to_f32(),
        vec![3.0; 1 << 20]
    );
}

#[test]
fn many_expanded_tensors_are_refused_together() {
    let one = |key: usize| {
        let tensor = tensor(storage("FloatStorage", "0", 1), 0, &[1 << 20], &[0]);
        (int(i64::try_from(key).unwrap()), tensor)
    };
    let pairs: Vec<_> = (0..100).map(one).collect();
    assert_refused(
        legacy_floats(&dict(&pairs), &[1.0]),
        &["more than the limit of 16 times the file's size"],
    );
    assert_eq!(read(legacy_floats(&dict(&pairs[..10]), &[1.0])).len(), 10);
}

#[test]
fn empty_tensors_may_have_any_offset() {
    for shape in [[0, i64::MAX, i64::MAX], [i64::MAX, i64::MAX, 0]] {
        let weights = read(legacy_with(i64::MAX, &shape, &[i64::MAX, 1, 1]));
        let tensor = weights.get("x").unwrap();
        assert_eq!((tensor.to_f32(), tensor.element_count()), (vec![], 0));
        assert_eq!(tensor.stats().mean, None);
    }
}

#[test]
fn strides_of_axes_of_size_one_do_not_matter() {
    let weights = read(legacy_with(0, &[1, 2, 1, 2], &[i64::MAX, 1, i64::MAX, 2]));
    assert_eq!(weights.get("x").unwrap().to_f32(), [0.0, 2.0, 1.0, 3.0]);
}

#[test]
fn long_keys_and_metadata_that_tensors_could_share_are_refused() {
    let key = "k".repeat(1 << 20);
    let long_key = dict(&[(
        text("x"),
        tensor(storage("FloatStorage", &key, 1), 0, &[1], &[1]),
    )]);
    assert_refused(
        legacy_file(&long_key, &[]),
        &["a storage's key has 1048576 bytes"],
    );
    let pairs: Vec<_> = (0..1000).map(|key| (int(key), int(0))).collect();
    let long_metadata = dict(&[(text("x"), tensor_with_metadata(dict(&pairs)))]);
    assert_refused(legacy_floats(&long_metadata, &[1.0]), &["unknown metadata"]);
}

#[test]
fn long_names_are_refused() {
    let one = tensor(storage("FloatStorage", "0", 1), 0, &[1], &[1]);
    assert_eq!(
        read(legacy_floats(
            &dict(&[(text(&"n".repeat(1024)), one.clone())]),
            &[1.0]
        ))
        .len(),
        1
    );
    for name in ["n".repeat(1025), "n".repeat(1 << 20)] {
        let object = dict(&[(text(&name), one.clone())]);
        assert_refused(
            legacy_floats(&object, &[1.0]),
            &["`nnnn", "nnn…`", "longer than 1024"],
        );
    }
}

#[test]
fn names_that_are_neither_strings_nor_integers_are_refused() {
    let one = tensor(storage("FloatStorage", "0", 1), 0, &[1], &[1]);
    for key in [NONE.to_vec(), tuple(&[]), vec![0x88]] {
        assert_refused(
            legacy_floats(&dict(&[(key, one.clone())]), &[1.0]),
            &["only strings and integers are accepted as names"],
        );
    }
}

#[test]
fn absurd_safetensors_headers_are_refused() {
    let entry = |shape: &str, offsets: &str| {
        format!("{{\"x\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}")
    };
    for (header, data, words) in [
        (entry("[1]", "[0,4]"), 0, "needs at least"),
        (
            entry("[1]", "[0,4]"),
            5,
            "goes on for 1 bytes after its end",
        ),
        (entry("[2]", "[0,4]"), 4, "safetensors"),
        (entry("[1]", "[4,8]"), 8, "`x`"),
        (entry("[1]", "[4,0]"), 4, "`x`"),
        (entry("[18446744073709551615,2]", "[0,8]"), 8, "safetensors"),
        (entry("[-1]", "[0,4]"), 4, "safetensors"),
        (
            entry("[0,18446744073709551615,2,1]", "[0,0]"),
            0,
            "overflow",
        ),
        ("{\"x\":1}".to_owned(), 0, "safetensors"),
        ("{".repeat(100_000), 0, "safetensors"),
        (
            "{\"x\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[0,1]}}".to_owned(),
            1,
            "`x`: its element type is F8_E4M3",
        ),
        (
            format!(
                "{{\"x\":{{\"dtype\":\"U8\",\"shape\":[{}1],\"data_offsets\":[0,1]}}}}",
                "1,".repeat(64)
            ),
            1,
            "65 axes",
        ),
    ] {
        assert_refused(safetensors_file(&header, &vec![0; data]), &[words]);
    }
    for length in [3_u64 << 20, 1 << 39] {
        assert_refused(
            [&length.to_le_bytes(), b"{}".as_slice()].concat(),
            &["the limit is 2097152"],
        );
    }
    assert_refused(
        [&100_u64.to_le_bytes(), b"{}".as_slice()].concat(),
        &["needs at least 108"],
    );
}

//! Reading any file takes no more memory than twice its size and 64 MiB. A process of its own, whose allocator
//! counts.

use std::sync::{Mutex, MutexGuard, PoisonError};

use peak_alloc::PeakAlloc;
use ssd_detector::labels::Labels;
use state_dict::StateDict;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Tests run one after the other, because they measure the process's memory.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asserts the bound. The file itself counts too.
#[track_caller]
fn assert_bounded<T>(what: &str, file: &[u8], read: impl FnOnce(Vec<u8>) -> T) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let value = read(file.to_vec());
    let grown = MEMORY.peak_usage() - before;
    drop(value);
    let most = 2 * file.len() + (64 << 20);
    assert!(
        grown <= most,
        "{what}: {grown} bytes for {} bytes",
        file.len()
    );
}

/// A file of the pre-1.6 format around two pickles: its object, and its list of storages.
fn legacy(object: &[u8], keys: &[u8]) -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let (version, system) = (b"\x80\x02M\xe9\x03.", b"\x80\x02}.");
    let storage = [&[1, 0, 0, 0, 0, 0, 0, 0], &[0; 4][..]].concat();
    [magic, &version[..], system, object, keys, &storage].concat()
}

#[test]
fn a_pickle_of_many_values_takes_bounded_memory() {
    let _alone = alone();
    for (what, part) in [
        ("lists", b"]".as_slice()),
        ("tuples", b"K\x01\x85"),
        ("lists of one", b"]Na"),
        ("dicts of one", b"}NNs"),
        ("memo", b"N\x94"),
        ("texts", b"U\x01\xff"),
        ("marks", b"("),
        ("names", b"cm\nn\n"),
        ("objects", b"cm\nn\n)R"),
    ] {
        let many = part.repeat(1 << 21);
        // Both pickles are in memory at the same time.
        let half = [&part.repeat((1 << 17) / part.len()), b"].".as_slice()].concat();
        for file in [legacy(&many, b""), legacy(&half, &many)] {
            assert_bounded(what, &file, StateDict::from_bytes);
        }
    }
}

#[test]
fn a_pickle_of_many_copies_takes_bounded_memory() {
    let _alone = alone();
    for pairs in [9, 1000] {
        // A list of pairs, and dicts made of it.
        let list = [b"](NN\x86q\x01", &b"h\x01".repeat(pairs)[..], b"eq\0"].concat();
        let dict = b"ccollections\nOrderedDict\nq\x02h\0\x85R";
        let more = b"h\x02h\0\x85R".repeat((1 << 21) / pairs);
        let file = legacy(&[&list, &dict[..], &more].concat(), b"");
        assert_bounded("copies", &file, StateDict::from_bytes);
    }
}

#[test]
fn a_pickle_of_long_names_and_shapes_takes_bounded_memory() {
    let _alone = alone();
    for axes in [1, 64] {
        let ones = [b"(", &b"K\x01".repeat(axes)[..], b"t"].concat();
        let storage =
            b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQ";
        let tensor = [
            b"ctorch._utils\n_rebuild_tensor_v2\n(",
            &storage[..],
            b"K\0",
            &ones,
            &ones,
            b"\x89ccollections\nOrderedDict\n)RtRq\0",
        ]
        .concat();
        // 65,280 names of 1,000 bytes, in a file of two thousand.
        let inner = [b"0](", &b"h\0".repeat(256)[..], b"eq\x010"].concat();
        let name = [b"}X\xe8\x03\0\0", &b"n".repeat(1000)[..]].concat();
        let outer = [b"](", &b"h\x01".repeat(255)[..], b"es."].concat();
        let object = [tensor, inner, name, outer].concat();
        let file = legacy(&object, b"]X\x01\0\0\x000a.");
        assert_bounded("names and shapes", &file, StateDict::from_bytes);
    }
}

#[test]
fn a_long_safetensors_header_takes_bounded_memory() {
    let _alone = alone();
    let many = |each: &dyn Fn(usize) -> String, size: usize| {
        let mut all = each(0);
        for index in 1.. {
            if all.len() > size {
                break;
            }
            all += &format!(",{}", each(index));
        }
        format!("{{{all}}}")
    };
    let tensor =
        |shape: &str| format!("{{\"dtype\":\"U8\",\"shape\":[{shape}],\"data_offsets\":[0,0]}}");
    for size in [2_000_000, 16_000_000] {
        for header in [
            many(&|index| format!("\"{index:x}\":{}", tensor("0")), size),
            format!(
                "{{\"__metadata__\":{}}}",
                many(&|index| format!("\"{index:x}\":\"\""), size)
            ),
            format!(
                "{{\"x\":{}}}",
                tensor("0,".repeat(size / 2).trim_end_matches(','))
            ),
        ] {
            let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
            assert_bounded("header", &file, StateDict::from_bytes);
        }
    }
}

#[test]
fn a_list_of_many_labels_takes_bounded_memory() {
    let _alone = alone();
    for file in [
        (0..250_000).map(|index| format!("{index:x}\n")).collect(),
        (0..190_000).map(|index| format!("{index:x}\n")).collect(),
        "\n".repeat(8 << 20),
        "\n".repeat(1 << 20),
        format!("{}x", "\n".repeat((1 << 20) - 1)),
        "N/A\n".repeat(1 << 18),
        "0:".to_owned() + &"\n0:".repeat(349_000),
        format!("[{}\"\"]", "\"\",".repeat(349_000)),
        format!("[{}0]", "0,".repeat(520_000)),
        format!(
            "{{{}\"\":0}}",
            (0..80_000)
                .map(|index| format!("\"{index}\":0,"))
                .collect::<String>()
        ),
        format!(
            "{{{}\"\":\"\"}}",
            (0..80_000)
                .map(|index| format!("\"{index}\":\"\","))
                .collect::<String>()
        ),
        format!("{}{}", "[".repeat(1 << 19), "]".repeat(1 << 19)),
    ] {
        assert_bounded("labels", file.as_bytes(), |file| Labels::parse(&file));
    }
}

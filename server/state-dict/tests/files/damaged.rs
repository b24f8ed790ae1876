//! Sound files damaged at many positions are read or refused, quickly and without a panic.

use std::time::{Duration, Instant};

use state_dict::StateDict;

use super::build::*;
use super::{assert_refused, data, refusal};

const FILES: [&str; 8] = [
    "checkpoint-legacy-protocol1.pth",
    "checkpoint-zip-protocol5.pth",
    "variants-legacy-protocol1.pth",
    "variants-legacy-protocol4.pth",
    "variants-zip-protocol2.pth",
    "variants.safetensors",
    "small-legacy.pth",
    "small-zip.pth",
];

/// All offsets of a small file; of a large one some near both ends, and a few between.
fn offsets(length: usize) -> impl Iterator<Item = usize> {
    let near = move |at| at < 8_000 || at + 8_000 > length;
    (0..length).filter(move |&at| length < 20_000 || (near(at) && at % 61 == 0) || at % 50_021 == 0)
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for name in FILES {
        let whole = std::fs::read(data(name)).unwrap();
        for length in offsets(whole.len()) {
            refusal(whole[..length].to_vec());
        }
    }
}

#[test]
fn bytes_after_the_end_are_refused_as_what_they_are() {
    let mut files: Vec<_> = FILES
        .iter()
        .map(|name| std::fs::read(data(name)).unwrap())
        .collect();
    files.extend([zip_file(&zip_records()), legacy_with(0, &[12], &[1])]);
    for whole in files {
        let end = whole.len();
        let mut appended = vec![
            vec![0],
            b"\n".to_vec(),
            b"PK\x05\x06".to_vec(),
            vec![0; 70_000],
        ];
        // Another download, which was cut short.
        appended.push(whole[..end / 2].to_vec());
        for more in appended {
            let words = format!(
                "goes on for {} bytes after its end at byte {end};",
                more.len()
            );
            assert_refused(
                [&*whole, &more].concat(),
                &[&words, &format!("`head -c {end}`")],
            );
        }
    }
}

#[test]
fn bytes_before_a_zip_archive_are_refused_as_what_they_are() {
    for whole in [
        zip_file(&zip_records()),
        std::fs::read(data("variants-zip-protocol2.pth")).unwrap(),
        std::fs::read(data("variants-zip-protocol5.pth")).unwrap(),
    ] {
        // A header, a first try that was cut short, and another whole download.
        for before in [
            b"HTTP/1.1 200 OK\r\n\r\n",
            &whole[..whole.len() / 2],
            &whole,
        ] {
            let words = format!("begins {} bytes after the beginning", before.len());
            let cut = format!("`tail -c +{}`", before.len() + 1);
            assert_refused([before, &whole].concat(), &[&words, &cut, "joined"]);
        }
    }
}

#[test]
fn two_downloads_of_a_legacy_file_are_refused() {
    let whole = std::fs::read(data("small-legacy.pth")).unwrap();
    assert_refused(whole.repeat(2), &["goes on for", "joined"]);
    for cut in offsets(whole.len()).skip(1).step_by(7) {
        refusal([&whole[..cut], &*whole].concat());
    }
}

#[test]
fn a_file_damaged_anywhere_is_read_or_refused() {
    for name in FILES {
        let deadline = Instant::now() + Duration::from_mins(1);
        let mut bytes = std::fs::read(data(name)).unwrap();
        for at in offsets(bytes.len()) {
            let flip = [0x01, 0x80, 0xff][at % 3];
            bytes[at] ^= flip;
            use_everything(bytes.clone());
            bytes[at] ^= flip;
            assert!(Instant::now() < deadline, "{name}: slow at byte {at}");
        }
    }
}

#[test]
fn random_bytes_are_refused() {
    let mut random = Random(0x1950_a86a_20f9_469c);
    // After each beginning, so that every reader gets some.
    let beginnings = [
        vec![],
        b"\x80\x02".to_vec(),
        [magic(), pickle(&int(1001)), pickle(&system_info(true))].concat(),
        b"PK\x03\x04".to_vec(),
        b"\x20\0\0\0\0\0\0\0{".to_vec(),
    ];
    for round in 0..20_000 {
        let mut bytes = beginnings[round % beginnings.len()].clone();
        let length = random.next() % 200;
        bytes.extend((0..length).map(|_| random.byte()));
        use_everything(bytes);
    }
}

#[test]
fn random_opcodes_are_read_or_refused() {
    // Opcodes fit together more often than random bytes.
    let object = |random: &mut Random| -> Vec<u8> {
        let pieces: Vec<Value> = vec![
            int(0),
            int(2),
            text("x"),
            tensor(storage("FloatStorage", "0", 4), 0, &[2], &[1]),
            storage("FloatStorage", "0", 4),
            global("collections", "OrderedDict"),
            global("torch._utils", "_rebuild_tensor_v2"),
            global("mine", "Config"),
            b"(imine\nConfig\n".to_vec(),
        ];
        let opcodes = b"(02N])}tlaedsueRboQ\x81\x85\x86\x87\x88\x8f\x90\x91\x92\x93\x94";
        let mut bytes = vec![b']'];
        for _ in 0..random.next() % 60 {
            match random.next() % 4 {
                0 => bytes.extend(&pieces[random.next() % pieces.len()]),
                1 => bytes.extend([b'h', random.byte() % 8]),
                _ => bytes.push(opcodes[random.next() % opcodes.len()]),
            }
        }
        bytes
    };
    let mut random = Random(7);
    for _ in 0..5_000 {
        let object = object(&mut random);
        use_everything(legacy_floats(&object, &[0.0; 4]));
    }
}

/// Reads the bytes, and every tensor if there are not too many.
fn use_everything(bytes: Vec<u8>) {
    if let Ok(weights) = StateDict::from_bytes(bytes) {
        for tensor in weights
            .tensors()
            .filter(|tensor| tensor.element_count() < 100_000)
        {
            assert_eq!(tensor.to_f32().len(), tensor.element_count());
            let _ = tensor.stats();
        }
        assert!(!weights.skipped().to_string().contains(char::is_control));
    }
}

/// Xorshift64: the same numbers each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 32).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

//! Damaged weight files are errors, never a panic.

use std::path::{Path, PathBuf};

use ssd_server::weights::StateDict;

const FILES: [&str; 3] = ["small-legacy.pth", "small-zip.pth", "small.safetensors"];

fn whole(name: &str) -> Vec<u8> {
    std::fs::read(
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data")
            .join(name),
    )
    .unwrap()
}

fn open(folder: &Path, bytes: &[u8]) -> Result<StateDict, String> {
    let path = folder.join("weights");
    std::fs::write(&path, bytes).unwrap();
    StateDict::open(&path).map_err(|error| error.to_string())
}

#[test]
fn a_truncated_file_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    for name in FILES {
        let bytes = whole(name);
        let step = bytes.len() / 60;
        for length in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
            let error = open(folder.path(), &bytes[..length])
                .err()
                .unwrap_or_else(|| panic!("{name} cut to {length} bytes was accepted"));
            assert!(error.contains("weights"), "{name}: {error}");
        }
    }
}

#[test]
fn a_flipped_byte_in_the_structure_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    for name in FILES {
        let bytes = whole(name);
        for offset in (0..4000).step_by(13) {
            let mut damaged = bytes.clone();
            damaged[offset] ^= 0xff;
            if let Ok(state) = open(folder.path(), &damaged) {
                state.tensors().for_each(|tensor| drop(tensor.to_f32()));
            }
        }
    }
}

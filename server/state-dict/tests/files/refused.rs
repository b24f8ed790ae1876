//! Files that people open by mistake, and their errors.

use std::path::Path;

use state_dict::{ErrorKind, StateDict};

use super::build::*;
use super::{assert_refused, data};

#[test]
fn the_error_names_the_file() {
    let error = StateDict::open(Path::new("/nowhere/weights.pth")).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/nowhere/weights.pth: cannot find the file: "),
        "{error}"
    );
    assert_eq!(error.path(), Path::new("/nowhere/weights.pth"));
    assert!(matches!(error.kind(), ErrorKind::Io { .. }));
}

#[test]
fn a_directory_is_refused() {
    let error = StateDict::open(&data("")).unwrap_err();
    assert!(error.to_string().contains("this is a directory"), "{error}");
}

#[test]
fn a_device_is_refused() {
    let error = StateDict::open(Path::new("/dev/zero")).unwrap_err();
    assert!(error.to_string().contains("a device"), "{error}");
}

#[test]
fn an_empty_file_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = StateDict::open(file.path()).unwrap_err();
    assert!(error.to_string().contains("empty (0 bytes)"), "{error}");
    assert_refused(Vec::new(), &["empty (0 bytes)"]);
}

#[test]
fn pages_left_by_a_failed_download_are_refused_with_their_title() {
    for (page, words) in [
        (
            "\u{feff}\n<!DOCTYPE html><html><head><TITLE lang=en>\n Google Drive - \u{1b}Quota  exceeded </title>",
            ["an HTML page", "`Google Drive - \\u{1b}Quota exceeded`"],
        ),
        (
            "<html><body>Not here</body></html>",
            ["an HTML page", "`<html><body>Not here</body></html>`"],
        ),
        (
            "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code><Message>The key does not exist.</Message></Error>",
            ["an XML document", "`The key does not exist.`"],
        ),
        (
            "{\"error\": \"Repository not found\"}",
            ["a JSON document", "{\"error\": \"Repository not found\"}"],
        ),
    ] {
        assert_refused(page.into(), &words);
        assert_refused(page.into(), &["the download failed", "download again"]);
    }
}

#[test]
fn the_excerpt_of_a_page_is_short() {
    assert_refused(
        format!("<html>{}", "word ".repeat(10_000)).into(),
        &["word…`"],
    );
}

#[test]
fn a_git_lfs_pointer_is_refused() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 105151288\n";
    assert_refused(
        pointer.into(),
        &["Git LFS pointer", "105151288 bytes", "git lfs pull"],
    );
    assert_refused(
        "version https://git-lfs.github.com/spec/v1\n".into(),
        &["size unknown"],
    );
}

#[test]
fn packed_files_are_refused() {
    for (bytes, what) in [
        (b"\x1f\x8b\x08\0".as_slice(), "gzip"),
        (b"\xfd7zXZ\0\0", "xz"),
        (b"7z\xbc\xaf\x27\x1c\0", "7z"),
        (b"BZh91AY", "bzip2"),
        (b"\x28\xb5\x2f\xfd", "Zstandard"),
    ] {
        assert_refused(bytes.to_vec(), &[what, "unpack it first"]);
    }
}

#[test]
fn the_tar_format_of_pytorch_0_1_is_refused() {
    let tar = |member: &str| {
        let mut file = vec![0; 1024];
        file[..member.len()].copy_from_slice(member.as_bytes());
        file[257..262].copy_from_slice(b"ustar");
        file
    };
    assert_refused(
        tar("sys_info"),
        &["PyTorch 0.1", "save its state dict again"],
    );
    assert_refused(
        tar("weights.pth"),
        &["a tar archive, not", "unpack it first"],
    );
}

#[test]
fn other_files_are_refused_by_their_first_bytes() {
    assert_refused(
        b"\x89PNG\r\n\x1a\n".to_vec(),
        &["this begins with the bytes [89 50 4e 47"],
    );
    assert_refused(
        b"404: Not\tFound".to_vec(),
        &["this begins with `404: Not\\tFound`"],
    );
    assert_refused(b"function{}".to_vec(), &["this begins with `function{}`"]);
    assert_refused(b"\x89HDF\r\n\x1a\n".to_vec(), &["HDF5"]);
    assert_refused(vec![0; 100], &["this begins with the bytes [00 00"]);
}

#[test]
fn a_pickle_that_torch_did_not_write_is_refused() {
    assert_refused(
        pickle(&dict(&[(text("x"), int(1))])),
        &["a pickle of a dict", "that torch.save did not write"],
    );
    assert_refused(b"\x80\x04K\x01.".to_vec(), &["a pickle of the integer 1"]);
}

#[test]
fn the_error_for_a_download_cut_short_has_both_sizes() {
    for name in ["small-legacy.pth", "small.safetensors"] {
        let whole = std::fs::read(data(name)).unwrap();
        let needs = format!("needs at least {}", whole.len());
        assert_refused(
            whole[..1_000_000].to_vec(),
            &["has 1000000 bytes", &needs, "again"],
        );
    }
    // A zip file without its directory still has the lengths of the tensors.
    let whole = std::fs::read(data("small-zip.pth")).unwrap();
    let error = StateDict::from_bytes(whole[..1_000_000].to_vec()).unwrap_err();
    let ErrorKind::Truncated {
        has,
        needs: Some(needs),
        ..
    } = error.kind()
    else {
        panic!("{error}");
    };
    assert_eq!(*has, 1_000_000);
    assert!((1_190_000..=whole.len() as u64).contains(needs), "{needs}");
}

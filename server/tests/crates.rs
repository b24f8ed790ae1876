//! The floors of the house: what each crate, and each module of the server, must not know.

use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The names of a crate's dependencies, direct or not, those of its tests and build scripts included.
fn dependencies(package: &str) -> Vec<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--prefix", "none"])
        .args(["--edges", "normal,build,dev", "--package", package])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{tree:?}");
    let lines = String::from_utf8(tree.stdout).unwrap();
    let names = lines.lines().filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

const HTTP: [&str; 6] = [
    "poem",
    "poem-openapi",
    "hyper",
    "tokio",
    "config",
    "prometheus",
];

#[test]
fn no_crate_below_the_server_or_beside_it_compiles_an_http_stack() {
    for package in ["state-dict", "ssd-detector", "ssd-train"] {
        let found = dependencies(package);
        assert!(found.contains(&"image".to_owned()) || package == "state-dict");
        for name in HTTP.into_iter().chain(["ssd-server"]) {
            assert!(!found.contains(&name.to_owned()), "{package}: {name}");
        }
    }
    // The fuzz targets are a workspace of their own, whose other crates may not be on this machine.
    let fuzz = std::fs::read_to_string(repository().join("server/fuzz/Cargo.toml")).unwrap();
    let (_, fuzz) = fuzz.split_once("[dependencies]").unwrap();
    assert!(fuzz.contains("ssd-detector ="));
    for name in HTTP.into_iter().chain(["ssd-server"]) {
        assert!(!fuzz.contains(&format!("{name} =")), "fuzz: {name}");
    }
}

#[test]
fn the_reader_of_state_dicts_knows_no_network() {
    let found = dependencies("state-dict");
    for name in ["tch", "torch-sys", "image", "ssd-detector"] {
        assert!(!found.contains(&name.to_owned()), "{name}");
    }
}

/// All sources of a module.
fn sources(module: &str) -> Vec<(PathBuf, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src")
        .join(module);
    let files = files(path);
    assert!(!files.is_empty(), "{module}");
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).unwrap();
        (file, text)
    };
    files.into_iter().map(read).collect()
}

/// A file, or all files in a folder.
fn files(path: PathBuf) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path];
    }
    let entries = std::fs::read_dir(path).unwrap();
    entries
        .flat_map(|entry| files(entry.unwrap().path()))
        .collect()
}

#[test]
fn no_module_of_the_server_points_back() {
    for (module, unknown) in [
        (
            "config.rs",
            &["ssd_detector", "crate::engine", "crate::api"][..],
        ),
        (
            "engine",
            &["crate::config", "crate::api", "crate::telemetry", "poem"],
        ),
        (
            "telemetry",
            &["poem", "hyper", "crate::api", "crate::server"],
        ),
        ("api", &["crate::server", "Settings"]),
    ] {
        for (file, text) in sources(module) {
            for name in unknown {
                assert!(!text.contains(name), "{}: {name}", file.display());
            }
        }
    }
}

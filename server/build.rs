//! Lets the binaries of this package find libtorch without any environment variable: where it was
//! built against, and `../lib` beside an installed binary (as in the container image). Tells the
//! program its version, too.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let beside = match std::env::var("CARGO_CFG_TARGET_VENDOR").as_deref() {
        Ok("apple") => "@loader_path",
        _ => "$ORIGIN",
    };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{beside}/../lib");
    let Some(libtorch) = std::env::var_os("LIBTORCH").map(PathBuf::from) else {
        println!(
            "cargo:error=LIBTORCH is not set: it names the folder of libtorch (`make libtorch`)"
        );
        return;
    };
    println!(
        "cargo:rustc-link-arg=-Wl,-rpath,{}",
        libtorch.join("lib").display()
    );
    let version = libtorch.join("build-version");
    println!("cargo:rerun-if-changed={}", version.display());
    let version = std::fs::read_to_string(version);
    let version = version.as_deref().map_or("unknown", str::trim);
    println!("cargo:rustc-env=LIBTORCH_VERSION={version}");
}

//! Compiles the shim that calls libtorch's operators, and lets the tests find libtorch without any environment variable.

use std::path::PathBuf;

const SHIM: &str = "src/onednn/shim.cpp";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={SHIM}");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let Some(libtorch) = std::env::var_os("LIBTORCH").map(PathBuf::from) else {
        println!(
            "cargo:error=LIBTORCH is not set; set it to the folder of libtorch (`make libtorch` downloads one)"
        );
        return;
    };
    println!(
        "cargo:rustc-link-arg=-Wl,-rpath,{}",
        libtorch.join("lib").display()
    );
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .file(SHIM)
        .include(libtorch.join("include"))
        // libtorch's headers have warnings.
        .warnings(false)
        .compile("ssd_shim");
}

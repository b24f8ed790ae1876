//! Compiles the shims that call libtorch's operators and libjpeg, and lets the tests find libtorch without any
//! environment variable.

use std::path::PathBuf;

const TORCH_SHIM: &str = "src/onednn/shim.cpp";
const JPEG_SHIM: &str = "src/picture/libjpeg/shim.c";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={TORCH_SHIM}");
    println!("cargo:rerun-if-changed={JPEG_SHIM}");
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
    let mut torch = cc::Build::new();
    // libtorch's threads are OpenMP's, which the compiler of macOS does not have.
    if std::env::var("CARGO_CFG_TARGET_VENDOR").as_deref() != Ok("apple") {
        torch.flag("-fopenmp");
        println!("cargo:rustc-link-lib=gomp");
    }
    torch
        .cpp(true)
        .std("c++20")
        .file(TORCH_SHIM)
        .include(libtorch.join("include"))
        // libtorch's headers have warnings.
        .warnings(false)
        .compile("ssd_torch_shim");
    // From mozjpeg-sys: the folders of libjpeg's headers.
    let headers = std::env::var_os("DEP_JPEG_INCLUDE").unwrap_or_default();
    cc::Build::new()
        .std("c11")
        .file(JPEG_SHIM)
        .includes(std::env::split_paths(&headers))
        // libjpeg's headers have warnings about unused parameters.
        .extra_warnings(false)
        .compile("ssd_jpeg_shim");
}

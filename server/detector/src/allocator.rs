//! How much free memory glibc's allocator keeps. glibc adapts its thresholds to freed blocks. After loading, it
//! would permanently keep as much free memory as the weights need.

/// Makes all threads share one arena. Call it before threads start. Otherwise each thread would keep its own free
/// memory, and glibc can only shrink the first arena.
pub fn use_one_arena() {
    option(Name::Arenas, 1);
}

/// Until [`retain_freed`], returns large blocks to the operating system as soon as they are freed: for example what is
/// read from a file.
pub fn return_freed() {
    option(Name::MapFrom, 1 << 20);
}

/// From now on, keeps freed blocks for the next forward pass, or the next convolution that is measured, which needs as
/// much memory. New memory from the operating system costs a page fault for every 4 KiB.
pub fn retain_freed() {
    option(Name::MapFrom, 32 << 20);
    option(Name::KeepFree, 256 << 20);
    trim();
}

#[derive(Clone, Copy)]
enum Name {
    Arenas,
    MapFrom,
    KeepFree,
}

#[cfg(target_env = "gnu")]
fn option(name: Name, value: i32) {
    let parameter = match name {
        Name::Arenas => libc::M_ARENA_MAX,
        Name::MapFrom => libc::M_MMAP_THRESHOLD,
        Name::KeepFree => libc::M_TRIM_THRESHOLD,
    };
    // SAFETY: takes two numbers, and locks what it changes. If it fails, the allocator works as before.
    #[expect(unsafe_code, reason = "glibc's own function for it")]
    unsafe {
        libc::mallopt(parameter, value);
    }
}

#[cfg(not(target_env = "gnu"))]
fn option(_: Name, _: i32) {}

/// Returns all free memory to the operating system, also from between blocks in use. Call it after some time
/// without work.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: changes no memory that is in use.
    #[expect(unsafe_code, reason = "glibc's own function for it")]
    unsafe {
        libc::malloc_trim(0);
    }
}

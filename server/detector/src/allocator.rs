//! How glibc's allocator keeps memory. By itself it learns from what is freed: after weights are read,
//! reordered and dropped, it would keep as much memory again for good.

/// Makes all threads share one arena. Call it before there are threads: each would otherwise keep free
/// memory of its own, and glibc cannot shrink any arena but the first.
pub fn use_one_arena() {
    option(Name::Arenas, 1);
}

/// From now on, until [`retain_freed`], large blocks go back to the system as soon as they are freed, such
/// as a file's tensors after they are reordered for the processor.
pub fn return_freed() {
    option(Name::MapFrom, 1 << 20);
}

/// From now on freed blocks are kept for the next forward pass, which needs as much again: new memory from
/// the system costs a page fault for every 4 KiB.
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
    // SAFETY: takes two numbers, and locks what it changes. If it refuses, memory is kept as before.
    #[expect(unsafe_code, reason = "glibc's own function for it")]
    unsafe {
        libc::mallopt(parameter, value);
    }
}

#[cfg(not(target_env = "gnu"))]
fn option(_: Name, _: i32) {}

/// Returns all free memory to the system, also from between blocks that are in use. Call it after some time
/// without work.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches nothing that is in use.
    #[expect(unsafe_code, reason = "glibc's own function for it")]
    unsafe {
        libc::malloc_trim(0);
    }
}

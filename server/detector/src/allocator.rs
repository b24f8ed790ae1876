//! How glibc's allocator is to keep memory. By itself it learns from what is freed: weights that are
//! read, reordered and dropped make it keep as much again, in pieces, for good.

/// Before there are threads: they are all to share one arena. Each would otherwise keep pieces of its own, and
/// glibc cannot give back the end of any arena but the first.
pub fn share() {
    option(Name::Arenas, 1);
}

/// From now on, until [`keep`], large blocks are the system's again as soon as they are freed: what
/// a file's tensors stand in before they are put in the processor's order.
pub fn loading() {
    option(Name::MapFrom, 1 << 20);
}

/// From now on blocks are kept for the next forward pass, which needs the same: asking the system for
/// them anew would cost it a page fault for every 4 KiB.
pub fn keep() {
    option(Name::MapFrom, 32 << 20);
    option(Name::KeepFree, 256 << 20);
    release();
}

#[derive(Clone, Copy)]
enum Name {
    Arenas,
    MapFrom,
    KeepFree,
}

#[cfg(target_env = "gnu")]
fn option(name: Name, value: i32) {
    let name = match name {
        Name::Arenas => libc::M_ARENA_MAX,
        Name::MapFrom => libc::M_MMAP_THRESHOLD,
        Name::KeepFree => libc::M_TRIM_THRESHOLD,
    };
    // SAFETY: takes two numbers, and locks what it changes. Where it refuses, memory is kept as before.
    #[expect(unsafe_code, reason = "glibc's own function for it")]
    unsafe {
        libc::mallopt(name, value);
    }
}

#[cfg(not(target_env = "gnu"))]
fn option(_: Name, _: i32) {}

/// Gives back what is free, also between blocks that are not: after a time without work.
pub fn release() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches nothing that is in use.
    #[expect(unsafe_code, reason = "glibc's own function for it")]
    unsafe {
        libc::malloc_trim(0);
    }
}

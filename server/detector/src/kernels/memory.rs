//! Memory that begins at a cache line, so that no vector lies in two, and that a thread keeps from call to call.

use std::cell::RefCell;

/// Floats of a cache line.
pub(super) const LINE: usize = 16;

/// Numbers that begin at a cache line.
#[derive(Debug, Default)]
pub(super) struct Aligned {
    numbers: Vec<f32>,
    first: usize,
    length: usize,
}

impl Aligned {
    pub fn zeros(length: usize) -> Self {
        let numbers = vec![0.0; length + LINE];
        let first = numbers.as_ptr().align_offset(4 * LINE).min(LINE);
        Self {
            numbers,
            first,
            length,
        }
    }

    pub fn as_slice(&self) -> &[f32] {
        &self.numbers[self.first..][..self.length]
    }

    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.numbers[self.first..][..self.length]
    }

    pub fn bytes(&self) -> usize {
        4 * self.numbers.capacity()
    }
}

/// Lends `length` numbers to `work`. They are what an earlier `work` of this thread left there.
pub(super) fn with_scratch(length: usize, work: impl FnOnce(&mut [f32])) {
    thread_local! {
        /// As many as calls of this function were ever nested.
        static SCRATCH: RefCell<Vec<Aligned>> = const { RefCell::new(Vec::new()) };
    }
    let kept = SCRATCH.with_borrow_mut(Vec::pop);
    let mut numbers = kept
        .filter(|numbers| numbers.length >= length)
        .unwrap_or_else(|| Aligned::zeros(length));
    work(&mut numbers.as_mut_slice()[..length]);
    SCRATCH.with_borrow_mut(|all| all.push(numbers));
}

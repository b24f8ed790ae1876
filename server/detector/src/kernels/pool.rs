//! Max-pools, first over rows and then over columns.

use std::ops::Range;

use tch::{Kind, TchError, Tensor};

use super::Shape;
use super::numbers::{Bf16, Number, pixels_first, slice, slice_mut};
use super::threads::Threads;
use super::vector::{Level, Vector, Work};
use crate::architecture::Pool;

/// A number as a whole one in the same order, since processors compare many whole numbers at once. NaN is the largest.
trait Ordered: Number {
    type Key: Copy + Ord + Send;
    fn key(self) -> Self::Key;
    fn of(key: Self::Key) -> Self;
}

impl Ordered for u8 {
    type Key = Self;

    #[inline(always)]
    fn key(self) -> Self {
        self
    }

    #[inline(always)]
    fn of(key: Self) -> Self {
        key
    }
}

impl Ordered for Bf16 {
    type Key = i16;

    #[inline(always)]
    fn key(self) -> i16 {
        let bits = self.0.cast_signed();
        // Of negative numbers, the one with the larger bits is the smaller one.
        let ordered = bits ^ (bits >> 15 & i16::MAX);
        if bits & i16::MAX > 0x7f80 {
            i16::MAX
        } else {
            ordered
        }
    }

    #[inline(always)]
    fn of(key: i16) -> Self {
        Self((key ^ (key >> 15 & i16::MAX)).cast_unsigned())
    }
}

impl Ordered for f32 {
    type Key = i32;

    #[inline(always)]
    fn key(self) -> i32 {
        let bits = self.to_bits().cast_signed();
        let ordered = bits ^ (bits >> 31 & i32::MAX);
        if self.is_nan() { i32::MAX } else { ordered }
    }

    #[inline(always)]
    fn of(key: i32) -> Self {
        Self::from_bits((key ^ (key >> 31 & i32::MAX)).cast_unsigned())
    }
}

/// The largest numbers of each window, in `channels_last` order.
///
/// # Errors
/// If libtorch fails.
pub(crate) fn max_pool(x: &Tensor, pool: Pool, threads: Threads) -> Result<Tensor, TchError> {
    match x.kind() {
        Kind::Uint8 => pool_of::<u8>(x, pool, threads),
        Kind::BFloat16 => pool_of::<Bf16>(x, pool, threads),
        _ => pool_of::<f32>(x, pool, threads),
    }
}

fn pool_of<T: Ordered>(x: &Tensor, pool: Pool, threads: Threads) -> Result<Tensor, TchError> {
    let (x, shape) = pixels_first(x)?;
    let channels = x.size()[3] as usize;
    let after = |side: usize| pool.side_after(side as i64) as usize;
    let outputs = Shape {
        maps: shape.maps,
        height: after(shape.height),
        width: after(shape.width),
    };
    let mut output = outputs.empty::<T>(channels)?;
    let (input, row) = (slice::<T>(&x), shape.width * channels);
    let rows = slice_mut::<T>(&mut output).chunks_mut(outputs.width * channels);
    let level = Level::of_this_machine();
    threads.for_each(rows.enumerate(), |(index, output)| {
        let (map, y) = (index / outputs.height, index % outputs.height);
        let (first, lines) = (map * shape.height, window(pool, y, shape.height));
        level.run(Row {
            input: &input[(first + lines.start) * row..(first + lines.end) * row],
            output,
            channels,
            width: shape.width,
            pool,
        });
    });
    output.f_permute([0, 3, 1, 2])
}

/// A row of outputs.
struct Row<'a, T> {
    /// The rows under the windows.
    input: &'a [T],
    output: &'a mut [T],
    channels: usize,
    width: usize,
    pool: Pool,
}

impl<T: Ordered> Work for Row<'_, T> {
    #[inline(always)]
    fn run<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(self) {
        let channels = self.channels;
        let (first, others) = self.input.split_at(self.width * channels);
        let mut line: Vec<_> = first.iter().map(|number| number.key()).collect();
        for row in others.chunks_exact(first.len()) {
            for (most, number) in line.iter_mut().zip(row) {
                *most = number.key().max(*most);
            }
        }
        for (x, output) in self.output.chunks_exact_mut(channels).enumerate() {
            let columns = window(self.pool, x, self.width);
            let pixels = &line[columns.start * channels..columns.end * channels];
            let (first, others) = pixels.split_at(channels);
            for (output, key) in output.iter_mut().zip(first) {
                *output = T::of(*key);
            }
            for pixel in others.chunks_exact(channels) {
                for (output, key) in output.iter_mut().zip(pixel) {
                    *output = T::of(output.key().max(*key));
                }
            }
        }
    }
}

/// The rows or columns of a window's members, which are inside the feature map.
fn window(pool: Pool, output: usize, side: usize) -> Range<usize> {
    let first = output as i64 * pool.stride - pool.padding;
    let end = (first + pool.window).min(side as i64);
    first.max(0) as usize..end as usize
}

//! Numbers in single precision to u8.

use tch::{TchError, Tensor};

use super::by_row;
use super::numbers::Number;
use super::threads::Threads;
use super::vector::{Level, Vector, Work};

/// Multiplies feature maps by `factor`, adds `zero_point`, rounds to the nearest whole number (of two to the even one), and
/// limits it to 0 to 255. The output is in `channels_last` order.
///
/// # Errors
/// If libtorch fails.
pub(crate) fn to_bytes(x: &Tensor, factor: f32, zero_point: f32) -> Result<Tensor, TchError> {
    let level = Level::of_this_machine();
    by_row(x, Threads::Libtorch, |_, input, output| {
        level.run(Row {
            input,
            output,
            factor,
            zero_point,
        });
    })
}

struct Row<'a> {
    input: &'a [f32],
    output: &'a mut [u8],
    factor: f32,
    zero_point: f32,
}

impl Work for Row<'_> {
    #[inline(always)]
    fn run<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(self) {
        for (output, input) in self.output.iter_mut().zip(self.input) {
            *output = u8::from_f32(input * self.factor + self.zero_point);
        }
    }
}

//! Numbers in single precision to u8.

use tch::{TchError, Tensor};

use super::numbers::{Number, pixels_first, slice, slice_mut};
use super::threads::Threads;
use super::vector::{Level, Vector, Work};

/// Multiplies feature maps by `factor`, adds `zero_point`, rounds to the nearest whole number (of two to the even one), and
/// limits it to 0 to 255. The output is in `channels_last` order.
///
/// # Errors
/// If libtorch fails.
pub(crate) fn to_bytes(x: &Tensor, factor: f32, zero_point: f32) -> Result<Tensor, TchError> {
    let (x, shape) = pixels_first(x)?;
    let channels = x.size()[3] as usize;
    let mut output = shape.empty::<u8>(channels)?;
    let row = (shape.width * channels).max(1);
    let rows = slice::<f32>(&x)
        .chunks(row)
        .zip(slice_mut::<u8>(&mut output).chunks_mut(row));
    let level = Level::of_this_machine();
    Threads::All.for_each(rows, |(input, output)| {
        level.run(Row {
            input,
            output,
            factor,
            zero_point,
        });
    });
    output.f_permute([0, 3, 1, 2])
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

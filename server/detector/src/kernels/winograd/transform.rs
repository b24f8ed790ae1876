//! The transforms of Winograd's convolution with kernels of 3 x 3 (Lavin & Gray, "Fast algorithms for convolutional
//! neural networks", 2015), in one dimension and for tiles.
//!
//! Inputs and weights are coefficients of polynomials. At a point, the product of two polynomials is one
//! multiplication, and `N` points determine `M = N - 2` outputs. The points are 0, `P` pairs of a number and its
//! negative, and infinity: `N = 2 P + 2`. The numbers of a pair have the same even and, up to the sign, the same odd
//! powers. Barabasz et al., "Error analysis and improving the accuracy of Winograd convolution for deep neural
//! networks" (2018), compare the errors of such points.

use super::super::vector::{Vector, load};

/// The coefficients of the transforms.
#[derive(Debug)]
pub(super) struct Points<const P: usize> {
    /// The powers `p^0` to `p^5` of the positive number `p` of each pair.
    powers: [[f32; 6]; P],
    /// For each pair, the product of `x^2 - q^2` over the other pairs `q`: the coefficients of `x^0`, `x^2` and so on.
    /// The last is 1.
    others: [[f32; P]; P],
    /// That product over all pairs, without its last coefficient 1.
    all: [f32; P],
}

/// For tiles of 4 x 4 outputs.
pub(super) const POINTS_4: Points<2> = Points::new([0.75, 1.5]);
/// For tiles of 6 x 6 outputs.
pub(super) const POINTS_6: Points<3> = Points::new([1.0, 2.0, 0.5]);

impl<const P: usize> Points<P> {
    const fn new(numbers: [f32; P]) -> Self {
        let mut points = Self {
            powers: [[1.0; 6]; P],
            others: [[0.0; P]; P],
            all: product(&numbers, P),
        };
        let mut pair = 0;
        while pair < P {
            points.others[pair] = product(&numbers, pair);
            let mut power = 1;
            while power < 6 {
                points.powers[pair][power] = points.powers[pair][power - 1] * numbers[pair];
                power += 1;
            }
            pair += 1;
        }
        points
    }

    /// The matrix that transforms weights: a row for each point.
    fn weights<const N: usize>(&self) -> [[f64; 3]; N] {
        let point = |index: usize| match index {
            0 => 0.0,
            odd if odd % 2 == 1 => f64::from(self.powers[odd / 2][1]),
            even => -f64::from(self.powers[even / 2 - 1][1]),
        };
        let mut rows = [[0.0, 0.0, 1.0]; N];
        for index in 0..N - 1 {
            let x = point(index);
            let others = (0..N - 1).filter(|other| index != *other);
            let divisor: f64 = others.map(|other| x - point(other)).product();
            rows[index] = [1.0, x, x * x].map(|power| power / divisor);
        }
        rows
    }

    /// Transforms inputs.
    #[inline(always)]
    fn inputs<V: Vector<LANES>, const LANES: usize, const N: usize>(
        &self,
        inputs: [V; N],
    ) -> [V; N] {
        let mut transformed = inputs;
        let (mut first, mut last) = (inputs[N - 2], inputs[N - 1]);
        for power in 0..P {
            let factor = V::splat(self.all[power]);
            first = inputs[2 * power].multiply_add(factor, first);
            last = inputs[2 * power + 1].multiply_add(factor, last);
        }
        transformed[0] = first;
        transformed[N - 1] = last;
        for pair in 0..P {
            let (mut odd, mut even) = (inputs[N - 3], inputs[N - 2]);
            for power in 0..P - 1 {
                let factor = V::splat(self.others[pair][power]);
                odd = inputs[2 * power + 1].multiply_add(factor, odd);
                even = inputs[2 * power + 2].multiply_add(factor, even);
            }
            let number = self.powers[pair][1];
            transformed[2 * pair + 1] = odd.multiply_add(V::splat(number), even);
            transformed[2 * pair + 2] = odd.multiply_add(V::splat(-number), even);
        }
        transformed
    }

    /// Transforms products to outputs.
    #[inline(always)]
    fn outputs<V: Vector<LANES>, const LANES: usize, const N: usize, const M: usize>(
        &self,
        products: [V; N],
    ) -> [V; M] {
        let mut outputs = [V::splat(0.0); M];
        outputs[0] = products[0];
        outputs[M - 1] = products[N - 1];
        for pair in 0..P {
            let (plus, minus) = (products[2 * pair + 1], products[2 * pair + 2]);
            let (even, odd) = (plus.plus(minus), plus.minus(minus));
            outputs[0] = outputs[0].plus(even);
            for power in 1..M {
                let part = if power % 2 == 0 { even } else { odd };
                outputs[power] =
                    part.multiply_add(V::splat(self.powers[pair][power]), outputs[power]);
            }
        }
        outputs
    }

    /// Transforms kernels: the function writes a number for each of the `N x N` points of a kernel.
    pub fn kernels<const N: usize>(&self) -> impl Fn(&[f32; 9], &mut [f32]) + Sync {
        let matrix: [[f64; 3]; N] = self.weights();
        let dot = |row: &[f64; 3], numbers: [f64; 3]| {
            row[0] * numbers[0] + row[1] * numbers[1] + row[2] * numbers[2]
        };
        move |kernel, into| {
            let kernel = kernel.map(f64::from);
            for (across, column) in matrix.iter().enumerate() {
                let sums = [0, 3, 6]
                    .map(|row| dot(column, [kernel[row], kernel[row + 1], kernel[row + 2]]));
                for (down, row) in matrix.iter().enumerate() {
                    into[down * N + across] = dot(row, sums) as f32;
                }
            }
        }
    }

    /// Transforms kernels for number `row` of the rows of points: of each input channel, `width` output channels of each of
    /// 9 weights. The `N` points of the result are `step` apart.
    #[inline(always)]
    pub fn row_of_kernels<V: Vector<LANES>, const LANES: usize, const N: usize>(
        &self,
        kernels: &[f32],
        (row, width): (usize, usize),
        into: &mut [f32],
        step: usize,
    ) {
        let mut factors = [[V::splat(0.0); 3]; N];
        for (vectors, numbers) in factors.iter_mut().zip(self.weights::<N>()) {
            for power in 0..3 {
                vectors[power] = V::splat(numbers[power] as f32);
            }
        }
        let down = factors[row];
        for (input, kernel) in kernels.chunks_exact(9 * width).enumerate() {
            for channel in (0..width).step_by(LANES) {
                let mut sums = [V::splat(0.0); 3];
                for column in 0..3 {
                    for power in 0..3 {
                        let weight: V = load(kernel, (3 * power + column) * width + channel);
                        sums[column] = weight.multiply_add(down[power], sums[column]);
                    }
                }
                for point in 0..N {
                    let mut number = V::splat(0.0);
                    for column in 0..3 {
                        number = sums[column].multiply_add(factors[point][column], number);
                    }
                    let at = point * step + input * width + channel;
                    into[at..][..LANES].copy_from_slice(&number.to_array());
                }
            }
        }
    }

    /// Transforms `LANES` channels of `N x N` pixels, which are `strides` apart from row to row and from pixel to pixel.
    /// The points of the result are `step` apart. `rows` is memory for numbers between the two dimensions.
    #[inline(always)]
    pub fn tile_inputs<V: Vector<LANES>, const LANES: usize, const N: usize>(
        &self,
        pixels: &[f32],
        strides: (usize, usize),
        rows: &mut [[V; N]; N],
        into: &mut [f32],
        step: usize,
    ) {
        for x in 0..N {
            let mut column = [V::splat(0.0); N];
            for y in 0..N {
                column[y] = load(pixels, y * strides.0 + x * strides.1);
            }
            let column = self.inputs(column);
            for y in 0..N {
                rows[y][x] = column[y];
            }
        }
        for y in 0..N {
            let row = self.inputs(rows[y]);
            for x in 0..N {
                into[(y * N + x) * step..][..LANES].copy_from_slice(&row[x].to_array());
            }
        }
    }

    /// Transforms `LANES` channels of products, whose points are `strides` apart from row to row and in a row, to `M x M`
    /// pixels. `rows` is memory for numbers between the two dimensions.
    #[inline(always)]
    pub fn tile_outputs<V: Vector<LANES>, const LANES: usize, const N: usize, const M: usize>(
        &self,
        products: &[f32],
        strides: (usize, usize),
        rows: &mut [[V; N]; M],
        pixels: &mut [[V; M]; M],
    ) {
        for x in 0..N {
            let mut column = [V::splat(0.0); N];
            for y in 0..N {
                column[y] = load(products, y * strides.0 + x * strides.1);
            }
            let column: [V; M] = self.outputs(column);
            for y in 0..M {
                rows[y][x] = column[y];
            }
        }
        for y in 0..M {
            pixels[y] = self.outputs(rows[y]);
        }
    }
}

/// The first `P` coefficients of the product of `x - q^2` over all `numbers` `q` but number `skipped`.
const fn product<const P: usize>(numbers: &[f32; P], skipped: usize) -> [f32; P] {
    let mut coefficients = [0.0; P];
    coefficients[0] = 1.0;
    let (mut index, mut degree) = (0, 0);
    while index < P {
        if index != skipped {
            degree += 1;
            let square = numbers[index] * numbers[index];
            let mut power = degree;
            while power > 0 {
                if power < P {
                    coefficients[power] = coefficients[power - 1] - square * coefficients[power];
                }
                power -= 1;
            }
            coefficients[0] *= -square;
        }
        index += 1;
    }
    coefficients
}

//! Vectors of numbers, as wide as the processor's registers. Everything above them is written once, for any width.
//!
//! Plain loops over arrays would become the same instructions, but not reliably: whether the compiler keeps a dozen
//! arrays in registers depends on the code around them.

use std::array;

use super::numbers::{Bf16, Number};

/// The instructions that work is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// Those of every processor of this architecture.
    #[cfg_attr(
        target_arch = "aarch64",
        allow(dead_code, reason = "there, only tests use it")
    )]
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Every arm64 processor has it.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// The instructions for products of numbers in bfloat16, with sums in single precision. Two neighbouring numbers, a pair, lie
/// in the bits of one number in single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bf16Level {
    /// With the panels and the rows of [`Level::Avx512`].
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

const PORTABLE_ROWS: usize = 6;

/// `LANES` numbers.
pub(super) trait Vector<const LANES: usize>: Copy {
    /// All lanes the same.
    fn splat(number: f32) -> Self;
    fn load(numbers: &[f32; LANES]) -> Self;
    /// Asks for the numbers that lie `vectors` after these in memory, which need not exist.
    fn prefetch(numbers: &[f32; LANES], vectors: usize);
    fn to_array(self) -> [f32; LANES];
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    /// `self * factor + sum`.
    fn multiply_add(self, factor: Self, sum: Self) -> Self;
    /// Adds products to `sum`: of the numbers of `self` and `weights`; at a [`Bf16Level`], of both numbers of their pairs.
    #[inline(always)]
    fn add_products(self, weights: Self, sum: Self) -> Self {
        self.multiply_add(weights, sum)
    }
    /// NaN stays NaN.
    fn limit(self, least: Self, greatest: Self) -> Self;
    /// The larger number of each lane; NaN if one is NaN.
    fn larger(self, other: Self) -> Self;
}

/// The numbers from `from`.
#[inline(always)]
pub(super) fn load<V: Vector<LANES>, const LANES: usize>(numbers: &[f32], from: usize) -> V {
    V::load(numbers[from..].first_chunk().expect("whole vectors"))
}

/// Work that is compiled for every [`Level`]. A function has the instructions of the function that it becomes a part
/// of: `run` and what it calls are `inline(always)`, and it calls no closures.
pub(super) trait Work {
    /// `ROWS`: of a product, in registers.
    fn run<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(self);
}

impl Level {
    /// The best of this processor.
    pub fn of_this_machine() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") {
            return Self::Avx512;
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Self::Avx2;
        }
        #[cfg(target_arch = "aarch64")]
        return Self::Neon;
        #[cfg(not(target_arch = "aarch64"))]
        Self::Portable
    }

    /// Lanes of a vector.
    pub fn lanes(self) -> usize {
        match self {
            Self::Portable => 4,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 8,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 16,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => 4,
        }
    }

    /// Columns of a product, or channels, that are computed together: two vectors.
    pub fn panel(self) -> usize {
        2 * self.lanes()
    }

    /// Rows of a product that are in registers.
    pub fn rows(self) -> usize {
        match self {
            Self::Portable => PORTABLE_ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => x86::AVX2_ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => x86::AVX512_ROWS,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => neon::ROWS,
        }
    }

    /// Runs work with these instructions.
    #[cfg_attr(
        target_arch = "x86_64",
        expect(unsafe_code, reason = "the compiler does not know the processor")
    )]
    pub fn run(self, work: impl Work) {
        match self {
            Self::Portable => work.run::<[f32; 4], 4, PORTABLE_ROWS>(),
            // SAFETY: `of_this_machine` found AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::avx2(work) },
            // SAFETY: `of_this_machine` found AVX-512F.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::avx512(work) },
            #[cfg(target_arch = "aarch64")]
            Self::Neon => work.run::<neon::Neon, 4, { neon::ROWS }>(),
        }
    }
}

#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "the compiler does not know the processor")
)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(
        unused_variables,
        clippy::needless_pass_by_value,
        reason = "there is no such level"
    )
)]
impl Bf16Level {
    /// That of this processor, if it has one.
    pub fn of_this_machine() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
            return Some(Self::Avx512);
        }
        None
    }

    /// Runs work whose products are of pairs.
    pub(super) fn run(self, work: impl Work) {
        match self {
            // SAFETY: `of_this_machine` found AVX-512F and AVX512-BF16.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::avx512_bf16(work) },
        }
    }

    /// Rounds numbers to bfloat16, in pairs: like [`pair`], except that numbers nearer to 0 than 2^-126 become 0.
    pub(super) fn round(self, numbers: &[f32], pairs: &mut [f32]) {
        match self {
            // SAFETY: as in `run`.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::round(numbers, pairs) },
        }
    }
}

/// Rounds two numbers to bfloat16, the first one to the lower bits.
#[inline(always)]
pub(super) fn pair(numbers: [f32; 2]) -> f32 {
    let [first, second] = numbers.map(|number| u32::from(Bf16::from_f32(number).0));
    f32::from_bits(second << 16 | first)
}

impl Vector<4> for [f32; 4] {
    #[inline(always)]
    fn splat(number: f32) -> Self {
        [number; 4]
    }

    #[inline(always)]
    fn load(numbers: &[f32; 4]) -> Self {
        *numbers
    }

    #[inline(always)]
    fn prefetch(_: &[f32; 4], _: usize) {}

    #[inline(always)]
    fn to_array(self) -> [f32; 4] {
        self
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        array::from_fn(|lane| self[lane] + other[lane])
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        array::from_fn(|lane| self[lane] - other[lane])
    }

    #[inline(always)]
    fn multiply_add(self, factor: Self, sum: Self) -> Self {
        // Where no instruction does both, `mul_add` is a slow function.
        if cfg!(target_arch = "aarch64") {
            array::from_fn(|lane| self[lane].mul_add(factor[lane], sum[lane]))
        } else {
            array::from_fn(|lane| self[lane] * factor[lane] + sum[lane])
        }
    }

    #[inline(always)]
    fn limit(self, least: Self, greatest: Self) -> Self {
        array::from_fn(|lane| {
            let number = if self[lane] < least[lane] {
                least[lane]
            } else {
                self[lane]
            };
            if number > greatest[lane] {
                greatest[lane]
            } else {
                number
            }
        })
    }

    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        array::from_fn(|lane| {
            if self[lane] > other[lane] || self[lane].is_nan() {
                self[lane]
            } else {
                other[lane]
            }
        })
    }
}

/// A vector of some lanes in a register, made of functions that are an instruction or two. The module has a function
/// `prefetch`, too.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! vector {
    ($name:ident($register:ty), $lanes:literal, $splat:ident, $load:ident, $store:ident, $add:ident, $subtract:ident,
     $multiply_add:ident, $max:ident, $min:ident, $larger:ident $(, $add_products:ident)?) => {
        /// Only the level of the same name names it: where there is one, the processor has its instructions.
        #[derive(Clone, Copy)]
        pub struct $name($register);

        // SAFETY: of every block, the processor has the instructions, as above. Pointers are those of arrays of the
        // vector's size, and need no alignment.
        impl Vector<$lanes> for $name {
            #[inline(always)]
            fn splat(number: f32) -> Self {
                Self(unsafe { $splat(number) })
            }

            #[inline(always)]
            fn load(numbers: &[f32; $lanes]) -> Self {
                Self(unsafe { $load(numbers.as_ptr()) })
            }

            #[inline(always)]
            fn prefetch(numbers: &[f32; $lanes], vectors: usize) {
                let address = numbers.as_ptr().wrapping_add(vectors * $lanes);
                prefetch(address);
            }

            #[inline(always)]
            fn to_array(self) -> [f32; $lanes] {
                let mut numbers = [0.0; $lanes];
                unsafe { $store(numbers.as_mut_ptr(), self.0) };
                numbers
            }

            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                Self(unsafe { $add(self.0, other.0) })
            }

            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                Self(unsafe { $subtract(self.0, other.0) })
            }

            #[inline(always)]
            fn multiply_add(self, factor: Self, sum: Self) -> Self {
                Self(unsafe { $multiply_add(self.0, factor.0, sum.0) })
            }

            #[inline(always)]
            fn limit(self, least: Self, greatest: Self) -> Self {
                // If one operand is NaN, the result is the second one; with NEON, NaN.
                Self(unsafe { $min(greatest.0, $max(least.0, self.0)) })
            }

            #[inline(always)]
            fn larger(self, other: Self) -> Self {
                Self(unsafe { $larger(self.0, other.0) })
            }

            $(
                #[inline(always)]
                fn add_products(self, weights: Self, sum: Self) -> Self {
                    Self(unsafe { $add_products(self.0, weights.0, sum.0) })
                }
            )?
        }
    };
}

#[cfg(target_arch = "aarch64")]
#[expect(unsafe_code, reason = "Rust's functions for instructions are unsafe")]
mod neon {
    use std::arch::aarch64::{
        float32x4_t, vaddq_f32, vdupq_n_f32, vfmaq_f32, vld1q_f32, vmaxq_f32, vminq_f32, vst1q_f32,
        vsubq_f32,
    };

    use super::Vector;

    /// Of 32 registers.
    pub const ROWS: usize = 12;

    /// Rust has no stable function for it.
    #[inline(always)]
    fn prefetch(_: *const f32) {}

    #[inline(always)]
    unsafe fn multiply_add(
        number: float32x4_t,
        factor: float32x4_t,
        sum: float32x4_t,
    ) -> float32x4_t {
        // SAFETY: the caller's.
        unsafe { vfmaq_f32(sum, number, factor) }
    }

    vector!(
        Neon(float32x4_t),
        4,
        vdupq_n_f32,
        vld1q_f32,
        vst1q_f32,
        vaddq_f32,
        vsubq_f32,
        multiply_add,
        vmaxq_f32,
        vminq_f32,
        vmaxq_f32
    );
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "the compiler does not know the processor")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, __m512bh, _CMP_UNORD_Q, _MM_HINT_T0, _mm_prefetch, _mm256_add_ps,
        _mm256_blendv_ps, _mm256_cmp_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps,
        _mm256_min_ps, _mm256_set1_ps, _mm256_storeu_ps, _mm256_sub_ps, _mm512_add_ps,
        _mm512_cmp_ps_mask, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_fmadd_ps,
        _mm512_loadu_ps, _mm512_mask_mov_ps, _mm512_max_ps, _mm512_min_ps, _mm512_set1_ps,
        _mm512_storeu_ps, _mm512_sub_ps,
    };

    use std::mem::transmute;

    use super::{Vector, Work, pair};

    /// Of 16 registers.
    pub const AVX2_ROWS: usize = 6;
    /// Of 32 registers.
    pub const AVX512_ROWS: usize = 12;

    #[target_feature(enable = "avx2,fma")]
    pub fn avx2(work: impl Work) {
        work.run::<Avx2, 8, AVX2_ROWS>();
    }

    #[target_feature(enable = "avx512f")]
    pub fn avx512(work: impl Work) {
        work.run::<Avx512, 16, AVX512_ROWS>();
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn avx512_bf16(work: impl Work) {
        work.run::<Avx512Bf16, 16, AVX512_ROWS>();
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn round(numbers: &[f32], pairs: &mut [f32]) {
        let (vectors, rest) = numbers.as_chunks::<32>();
        let (whole, last) = pairs.split_at_mut(16 * vectors.len());
        for (numbers, pairs) in vectors.iter().zip(whole.as_chunks_mut::<16>().0) {
            let (halves, _) = numbers.as_chunks::<16>();
            let (first, second) = (Avx512Bf16::load(&halves[0]), Avx512Bf16::load(&halves[1]));
            let rounded = _mm512_cvtne2ps_pbh(second.0, first.0);
            // SAFETY: both types are 512 bits, and all bits are a value.
            let rounded = unsafe { transmute::<__m512bh, __m512>(rounded) };
            *pairs = Avx512Bf16(rounded).to_array();
        }
        for (numbers, into) in rest.as_chunks().0.iter().zip(last) {
            *into = pair(*numbers);
        }
    }

    #[inline(always)]
    unsafe fn add_products(pairs: __m512, weights: __m512, sum: __m512) -> __m512 {
        // SAFETY: the caller's; and both types are 512 bits, and all bits are a value.
        unsafe {
            let pairs = transmute::<__m512, __m512bh>(pairs);
            _mm512_dpbf16_ps(sum, pairs, transmute::<__m512, __m512bh>(weights))
        }
    }

    #[inline(always)]
    fn prefetch(address: *const f32) {
        // SAFETY: it does not read, and an address need not exist.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }

    // If one operand of the instruction for the larger number is NaN, the result is the second one.

    #[inline(always)]
    unsafe fn larger_of_8(one: __m256, other: __m256) -> __m256 {
        // SAFETY: the caller's.
        unsafe {
            let is_nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(one, one);
            _mm256_blendv_ps(_mm256_max_ps(one, other), one, is_nan)
        }
    }

    #[inline(always)]
    unsafe fn larger_of_16(one: __m512, other: __m512) -> __m512 {
        // SAFETY: the caller's.
        unsafe {
            let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(one, one);
            _mm512_mask_mov_ps(_mm512_max_ps(one, other), is_nan, one)
        }
    }

    vector!(
        Avx2(__m256),
        8,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_fmadd_ps,
        _mm256_max_ps,
        _mm256_min_ps,
        larger_of_8
    );
    macro_rules! vector_of_16 {
        ($name:ident $(, $add_products:ident)?) => {
            vector!(
                $name(__m512),
                16,
                _mm512_set1_ps,
                _mm512_loadu_ps,
                _mm512_storeu_ps,
                _mm512_add_ps,
                _mm512_sub_ps,
                _mm512_fmadd_ps,
                _mm512_max_ps,
                _mm512_min_ps,
                larger_of_16
                $(, $add_products)?
            );
        };
    }
    vector_of_16!(Avx512);
    vector_of_16!(Avx512Bf16, add_products);
}

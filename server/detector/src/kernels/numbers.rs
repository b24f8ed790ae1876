//! The numbers of tensors, as slices.

use tch::{Device, Kind, TchError, Tensor};

use super::Shape;

/// 1.5 * 2^23: the lowest bit of a sum with it is 1, so small numbers are rounded to whole ones.
pub(super) const WHOLE: f32 = 12_582_912.0;

/// A type of a tensor's numbers.
///
/// # Safety
/// The type is laid out as the numbers of a tensor of this kind, and all bits are a value.
#[expect(unsafe_code, reason = "slices of tensors")]
pub(crate) unsafe trait Number: Copy + Send + Sync {
    const KIND: Kind;
    fn from_f32(number: f32) -> Self;
    fn to_f32(self) -> f32;
}

/// bfloat16: the upper half of a number in single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Bf16(pub u16);

// SAFETY: these are libtorch's types of these kinds.
#[expect(unsafe_code, reason = "slices of tensors")]
mod kinds {
    use super::{Bf16, Kind, Number, WHOLE};

    unsafe impl Number for f32 {
        const KIND: Kind = Kind::Float;

        #[inline(always)]
        fn from_f32(number: f32) -> Self {
            number
        }

        #[inline(always)]
        fn to_f32(self) -> f32 {
            self
        }
    }

    unsafe impl Number for Bf16 {
        const KIND: Kind = Kind::BFloat16;

        /// Rounds to the nearest, of two to the even one.
        #[inline(always)]
        fn from_f32(number: f32) -> Self {
            let bits = number.to_bits();
            let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
            // Rounding could turn NaN into infinity.
            Self(if number.is_nan() {
                0x7fc0
            } else {
                rounded as u16
            })
        }

        #[inline(always)]
        fn to_f32(self) -> f32 {
            f32::from_bits(u32::from(self.0) << 16)
        }
    }

    unsafe impl Number for u8 {
        const KIND: Kind = Kind::Uint8;

        /// Rounds to the nearest, of two to the even one, from 0 to 255.
        #[inline(always)]
        fn from_f32(number: f32) -> Self {
            // Other conversions are slow, a number at a time.
            (number.clamp(0.0, 255.0) + WHOLE).to_bits() as Self
        }

        #[inline(always)]
        fn to_f32(self) -> f32 {
            f32::from(self)
        }
    }
}

/// Feature maps (N x C x H x W) as N x H x W x C, contiguous, and their size.
pub(crate) fn pixels_first(maps: &Tensor) -> Result<(Tensor, Shape), TchError> {
    let maps = maps.f_permute([0, 2, 3, 1])?.f_contiguous()?;
    let size = maps.size();
    let shape = Shape {
        maps: size[0] as usize,
        height: size[1] as usize,
        width: size[2] as usize,
    };
    Ok((maps, shape))
}

/// The numbers of a contiguous tensor.
pub(crate) fn slice<T: Number>(tensor: &Tensor) -> &[T] {
    check::<T>(tensor);
    // SAFETY: the tensor has this many numbers of this type at this address, on the CPU, as long as it lives.
    #[expect(unsafe_code, reason = "tch returns a pointer")]
    unsafe {
        std::slice::from_raw_parts(tensor.data_ptr().cast(), tensor.numel())
    }
}

/// The numbers of a new tensor, which nothing else refers to.
pub(crate) fn slice_mut<T: Number>(tensor: &mut Tensor) -> &mut [T] {
    check::<T>(tensor);
    // SAFETY: as in `slice`; and the caller has just made the tensor, so no other slice refers to its numbers.
    #[expect(unsafe_code, reason = "tch returns a pointer")]
    unsafe {
        std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel())
    }
}

fn check<T: Number>(tensor: &Tensor) {
    assert!(
        tensor.is_contiguous() && tensor.kind() == T::KIND && tensor.device() == Device::Cpu,
        "a contiguous tensor of {:?} on the CPU",
        T::KIND
    );
}

//! The arithmetic of shapes and strides, in elements. All operations check for overflow, because the numbers come
//! from files.

/// The number of elements of a shape; 1 for the empty shape of a scalar. `None` if it exceeds `usize`.
pub(super) fn element_count(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape
        .iter()
        .try_fold(1_usize, |count, &size| count.checked_mul(size))
}

/// The strides of a row-major tensor without gaps. `None` if one exceeds `usize`.
pub(super) fn contiguous_strides(shape: &[usize]) -> Option<Vec<usize>> {
    let mut strides = vec![1_usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        // PyTorch counts an empty axis as 1 in strides.
        strides[axis - 1] = strides[axis].checked_mul(shape[axis].max(1))?;
    }
    Some(strides)
}

/// Whether the elements lie in row-major order without gaps. Strides of axes of size 1 do not matter.
pub(super) fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = Some(1_usize);
    shape.contains(&0)
        || shape.iter().zip(strides).rev().all(|(&size, &stride)| {
            let fits = size == 1 || expected == Some(stride);
            expected = expected.and_then(|step| step.checked_mul(size));
            fits
        })
}

/// The number of elements from the first to the last, inclusive; 0 for an empty tensor. `None` if it exceeds
/// `usize`. `shape` and `strides` have the same length.
pub(super) fn span(shape: &[usize], strides: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape
        .iter()
        .zip(strides)
        .try_fold(1_usize, |span, (&size, &stride)| {
            span.checked_add((size - 1).checked_mul(stride)?)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_do_not_wrap() {
        assert_eq!(element_count(&[]), Some(1));
        assert_eq!(element_count(&[2, 3]), Some(6));
        assert_eq!(element_count(&[1 << 40, 1 << 40]), None);
        assert_eq!(element_count(&[1 << 40, 1 << 40, 0]), Some(0));
    }

    #[test]
    fn strides_of_axes_of_size_one_do_not_matter() {
        assert!(is_contiguous(&[2, 1, 3], &[3, 77, 1]));
        assert!(is_contiguous(&[], &[]));
        assert!(!is_contiguous(&[2, 3], &[1, 2]));
        assert!(!is_contiguous(&[2, 3], &[0, 1]));
    }

    #[test]
    fn a_span_reaches_the_last_element() {
        assert_eq!(span(&[], &[]), Some(1));
        assert_eq!(span(&[2, 3], &[3, 1]), Some(6));
        assert_eq!(span(&[2, 3], &[10, 2]), Some(15));
        assert_eq!(span(&[usize::MAX], &[0]), Some(1));
        assert_eq!(span(&[usize::MAX], &[2]), None);
        assert_eq!(span(&[0, 5], &[usize::MAX, 1]), Some(0));
    }
}

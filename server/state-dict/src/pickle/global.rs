//! The names that stand for data, and what each means for the unpickler. Nothing is imported or called.
//!
//! The list is the subset of the allow-list of `torch.load(weights_only=True)` that plain state dicts use
//! (`torch/_weights_only_unpickler.py`, `_get_allowed_globals`), with the names of older versions.

use crate::dtype::Dtype;

/// The meaning of a name from the list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Global {
    /// `dict`, `OrderedDict` or `Counter`.
    Dict,
    DefaultDict,
    Set,
    /// `bytes`, or the function with which older protocols write them.
    Bytes,
    RebuildTensor(RebuildTensor),
    RebuildParameter,
    RebuildParameterWithState,
    RebuildFromType,
    /// A class that wraps one tensor.
    Parameter,
    TensorClass,
    Size,
    /// `torch.device`, or the function that returns a layout.
    Setting,
    StorageType(StorageType),
    Dtype(Dtype),
    /// A dtype that is not accepted for tensors, but may occur elsewhere.
    OtherDtype,
}

/// The functions that make a tensor from a storage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RebuildTensor {
    /// `PyTorch` 0.2 and 0.3: storage, offset, shape, strides.
    V1,
    /// Since 0.4: the same, then `requires_grad` and hooks; since 1.12 optional metadata.
    V2,
    /// For element types without a storage class: like V2, with the element type before the metadata.
    V3,
}

/// The element type of a storage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum StorageType {
    Typed(Dtype),
    /// Bytes; the tensor states the type.
    Untyped,
}

impl StorageType {
    /// Bytes of one element.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Typed(dtype) => dtype.size(),
            Self::Untyped => 1,
        }
    }
}

impl Global {
    /// The meaning of a name; `None` if it is not on the list.
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict" | "Counter") | ("builtins" | "__builtin__", "dict") => {
                Self::Dict
            }
            ("collections", "defaultdict") => Self::DefaultDict,
            ("builtins" | "__builtin__", "set" | "frozenset") => Self::Set,
            ("builtins" | "__builtin__", "bytes") | ("_codecs", "encode") => Self::Bytes,
            ("torch._utils", "_rebuild_tensor") => Self::RebuildTensor(RebuildTensor::V1),
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor(RebuildTensor::V2),
            ("torch._utils", "_rebuild_tensor_v3") => Self::RebuildTensor(RebuildTensor::V3),
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch._utils", "_rebuild_parameter_with_state") => Self::RebuildParameterWithState,
            ("torch._tensor", "_rebuild_from_type_v2") => Self::RebuildFromType,
            ("torch.nn.parameter", "Parameter" | "Buffer")
            | ("torch.autograd.variable", "Variable") => Self::Parameter,
            ("torch", "Tensor") => Self::TensorClass,
            ("torch", "Size") => Self::Size,
            ("torch", "device") | ("torch.serialization", "_get_layout") => Self::Setting,
            ("torch.storage" | "torch" | "torch.cuda", "UntypedStorage" | "_UntypedStorage") => {
                Self::StorageType(StorageType::Untyped)
            }
            ("torch" | "torch.cuda", name) if name.ends_with("Storage") => {
                Self::StorageType(StorageType::Typed(Dtype::from_storage_class(name)?))
            }
            ("torch", name) => Self::dtype(name)?,
            _ => return None,
        })
    }

    fn dtype(name: &str) -> Option<Self> {
        match name {
            "complex32" | "complex64" | "complex128" | "qint8" | "quint8" | "qint32"
            | "float8_e4m3fn" | "float8_e4m3fnuz" | "float8_e5m2" | "float8_e5m2fnuz"
            | "float8_e8m0fnu" => Some(Self::OtherDtype),
            name => Dtype::from_name(name).map(Self::Dtype),
        }
    }
}

//! The precision and the device of a forward pass, and the selection of the precision for this machine.

use std::fmt;
use std::time::Duration;

use tch::{Cuda, Device};

/// The number format of a forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// Single precision.
    F32,
    /// bfloat16, with sums in single precision. On a CPU, depthwise convolutions, and those that are faster so by Winograd's
    /// algorithm, are computed in single precision.
    Bf16,
    /// 8-bit activations and weights, with sums in 32 bits.
    Int8,
}

impl Precision {
    /// Every precision, the most exact first.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Int8];

    /// A stable name: `f32`, `bf16` or `int8`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// The precision with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|precision| precision.name() == name)
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The processor features that affect the precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a feature")]
pub struct Processor {
    /// x86-64, for which libtorch has oneDNN's operators.
    pub x86: bool,
    /// 256-bit vectors (AVX2).
    pub avx2: bool,
    /// bfloat16 products that libtorch uses: AVX512-BF16, which AMX implies; on Linux on arm64, BF16.
    pub bf16: bool,
    /// 32-bit sums of int8 products (AVX512-VNNI or AVX-VNNI). Without them, pairs of products are first summed in
    /// 16 bits, where sums can saturate.
    pub vnni: bool,
}

/// The instruction sets without bfloat16 to which oneDNN can be limited, in ascending order.
#[cfg(target_arch = "x86_64")]
const LIMITS: [&str; 7] = [
    "SSE41",
    "AVX",
    "AVX2",
    "AVX2_VNNI",
    "AVX2_VNNI_2",
    "AVX512_CORE",
    "AVX512_CORE_VNNI",
];

impl Processor {
    /// This machine's processor. Like oneDNN, it is limited by `ONEDNN_MAX_CPU_ISA` (older name:
    /// `DNNL_MAX_CPU_ISA`).
    #[must_use]
    pub fn of_this_machine() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected;
            let limit = std::env::var("ONEDNN_MAX_CPU_ISA")
                .or_else(|_| std::env::var("DNNL_MAX_CPU_ISA"))
                .unwrap_or_default()
                .to_ascii_uppercase();
            let below = |names: &[&str]| names.contains(&limit.as_str());
            Self {
                x86: true,
                avx2: is_x86_feature_detected!("avx2") && !below(&LIMITS[..2]),
                bf16: is_x86_feature_detected!("avx512bf16") && !below(&LIMITS),
                vnni: is_x86_feature_detected!("avx512vnni") && !below(&LIMITS[..6])
                    || is_x86_feature_detected!("avxvnni")
                        && !below(&LIMITS[..3])
                        && limit != "AVX512_CORE",
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Self {
            x86: false,
            avx2: false,
            bf16: has_arm_bf16(),
            vnni: false,
        }
    }
}

/// Whether libtorch has a use for arm64's bfloat16 instructions: for macOS it is built without oneDNN.
#[cfg(not(target_arch = "x86_64"))]
fn has_arm_bf16() -> bool {
    #[cfg(all(target_arch = "aarch64", target_os = "linux"))]
    return std::arch::is_aarch64_feature_detected!("bf16");
    #[cfg(not(all(target_arch = "aarch64", target_os = "linux")))]
    false
}

/// The requested device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestedDevice {
    /// The first CUDA device if libtorch finds one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device with this number.
    Cuda(usize),
}

impl RequestedDevice {
    /// The device with this name: `auto`, `cpu` or `cuda:N`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            _ => {
                let number = name.strip_prefix("cuda:")?;
                number.parse().ok().map(Self::Cuda)
            }
        }
    }

    /// The device.
    ///
    /// # Errors
    /// If it is a CUDA device that libtorch does not find.
    pub fn device(self) -> Result<Device, String> {
        let found = usize::try_from(Cuda::device_count()).unwrap_or(0);
        match self {
            Self::Auto if found > 0 => Ok(Device::Cuda(0)),
            Self::Auto | Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) if number < found => Ok(Device::Cuda(number)),
            Self::Cuda(number) => Err(format!(
                "there is no device cuda:{number}: libtorch finds {found} CUDA devices{}; choose auto or cpu",
                if Cuda::is_available() {
                    ", numbered from 0"
                } else {
                    ", because it is built without CUDA or there is no driver"
                }
            )),
        }
    }
}

/// The requested precision and device. By default, both are selected automatically.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Requested {
    /// `None` to select one automatically.
    pub precision: Option<Precision>,
    /// The device.
    pub device: RequestedDevice,
}

impl Requested {
    /// Single precision on the CPU, with which other precisions are compared.
    pub const REFERENCE: Self = Self {
        precision: Some(Precision::F32),
        device: RequestedDevice::Cpu,
    };
}

/// The precision and device on which a network runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// The precision.
    pub precision: Precision,
    /// The device.
    pub device: Device,
    /// Why this precision, for the log.
    pub reason: String,
    /// A disadvantage of this precision, for the log.
    pub warning: Option<&'static str>,
}

/// Selects a precision: the `requested` one, else the fastest precision that does not reduce accuracy. The
/// candidates are single precision; bfloat16 if the processor has instructions for it; and int8 if the processor
/// has AVX2 and the weights are `calibrated` (the user has measured the scales). `measure` returns how long a pass
/// takes; a less exact precision must be 10 % faster. On a GPU, selects single precision.
///
/// # Errors
/// The errors of `measure`.
pub fn select<E>(
    requested: Option<Precision>,
    device: Device,
    processor: Processor,
    calibrated: bool,
    mut measure: impl FnMut(Precision) -> Result<Duration, E>,
) -> Result<Selection, E> {
    let on_cpu = device == Device::Cpu;
    let selection = |precision, reason, warning| Selection {
        precision,
        device,
        reason,
        warning,
    };
    if let Some(precision) = requested {
        let warning = match precision {
            Precision::F32 => None,
            Precision::Bf16 => (on_cpu && !processor.bf16).then_some(
                "libtorch finds no bfloat16 instructions here (AVX512-BF16, or BF16 on arm64): bf16 is emulated, and \
                 can be twenty times slower than f32",
            ),
            Precision::Int8 => (!processor.vnni).then_some(
                "this processor has no VNNI instructions: int8 runs at about half speed, and weights have \
                 seven bits, so that 16-bit sums do not overflow",
            ),
        };
        return Ok(selection(precision, "requested".to_owned(), warning));
    }
    if !on_cpu {
        return Ok(selection(
            Precision::F32,
            "it runs on a GPU".to_owned(),
            None,
        ));
    }
    let suits = |precision: &Precision| match precision {
        Precision::F32 => true,
        Precision::Bf16 => processor.bf16,
        Precision::Int8 => processor.avx2 && calibrated,
    };
    let candidates: Vec<Precision> = Precision::ALL.into_iter().filter(suits).collect();
    if let [only] = candidates[..] {
        let int8 = match processor {
            Processor { x86: false, .. } => "int8 needs an x86-64 processor",
            Processor { avx2: false, .. } => "no AVX2",
            _ => "weights not calibrated",
        };
        let reason = format!("the only suitable precision: no bfloat16 instructions, {int8}");
        return Ok(selection(only, reason, None));
    }
    let mut best: Option<(Precision, Duration)> = None;
    let mut passes = Vec::new();
    for precision in candidates {
        let pass = measure(precision)?;
        passes.push(format!("{precision} {:.1} ms", pass.as_secs_f64() * 1e3));
        if best.is_none_or(|(_, best)| pass < best.mul_f64(0.9)) {
            best = Some((precision, pass));
        }
    }
    let fastest = best.map_or(Precision::F32, |(precision, _)| precision);
    let reason = format!(
        "a less exact one must be 10 % faster; measured per pass: {}",
        passes.join(", ")
    );
    Ok(selection(fastest, reason, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Processor = Processor {
        x86: true,
        avx2: true,
        bf16: false,
        vnni: false,
    };
    const ALL: Processor = Processor {
        bf16: true,
        vnni: true,
        ..PLAIN
    };

    /// The selection if passes take these times in f32, bf16 and int8.
    fn auto(processor: Processor, calibrated: bool, milliseconds: [u64; 3]) -> Selection {
        let measure = |precision| {
            let index = Precision::ALL.iter().position(|&other| other == precision);
            index
                .map(|index| Duration::from_millis(milliseconds[index]))
                .ok_or(())
        };
        select(None, Device::Cpu, processor, calibrated, measure).unwrap()
    }

    #[test]
    fn the_fastest_is_selected_and_of_equals_the_most_exact() {
        for (milliseconds, expected) in [
            ([100, 50, 40], Precision::Int8),
            ([100, 50, 60], Precision::Bf16),
            ([40, 50, 60], Precision::F32),
            ([100, 95, 91], Precision::F32),
            ([100, 50, 49], Precision::Bf16),
        ] {
            let selection = auto(ALL, true, milliseconds);
            assert_eq!(selection.precision, expected, "{milliseconds:?}");
            assert!(selection.reason.contains("ms"), "{selection:?}");
        }
    }

    #[test]
    fn an_emulated_or_uncalibrated_precision_is_never_selected() {
        assert_eq!(auto(PLAIN, false, [9, 1, 1]).precision, Precision::F32);
        assert_eq!(auto(ALL, false, [9, 5, 1]).precision, Precision::Bf16);
        let arm = Processor {
            x86: false,
            avx2: false,
            ..PLAIN
        };
        let selection = auto(arm, true, [9, 1, 1]);
        assert_eq!(selection.precision, Precision::F32);
        assert!(selection.reason.contains("int8 needs an x86-64 processor"));
        let arm = Processor { bf16: true, ..arm };
        assert_eq!(auto(arm, true, [9, 5, 1]).precision, Precision::Bf16);
    }

    #[test]
    fn a_requested_precision_is_selected_with_a_warning_if_it_costs() {
        let requested = |precision, processor| {
            select(Some(precision), Device::Cpu, processor, false, |_| Err(())).unwrap()
        };
        for precision in Precision::ALL {
            let selection = requested(precision, PLAIN);
            assert_eq!(selection.precision, precision);
            assert_eq!(selection.warning.is_some(), precision != Precision::F32);
            assert_eq!(requested(precision, ALL).warning, None);
        }
    }
}

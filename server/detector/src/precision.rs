//! In which arithmetic a network runs and where, and which of them suits this machine.

use std::fmt;
use std::time::Duration;

use tch::{Cuda, Device};

/// The arithmetic of a forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// Single precision.
    F32,
    /// bfloat16, with sums in single precision.
    Bf16,
    /// Eight-bit activations and weights, with sums in 32 bits.
    Int8,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Int8];

    /// As in the setting.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// The precision of that name.
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

/// What a processor can do that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a feature")]
pub struct Processor {
    /// x86-64, where oneDNN's operators are.
    pub x86: bool,
    /// Vectors of 256 bits (AVX2).
    pub avx2: bool,
    /// Products of bfloat16 (AVX512-BF16; AMX comes with it).
    pub bf16: bool,
    /// Sums of eight-bit products in 32 bits (AVX512-VNNI or AVX-VNNI). Without it pairs of products
    /// are summed in 16 bits first, and saturate there.
    pub vnni: bool,
}

/// The ceilings that oneDNN may be given, from the least to the last that has no bfloat16.
#[cfg(target_arch = "x86_64")]
const CEILINGS: [&str; 7] = [
    "SSE41",
    "AVX",
    "AVX2",
    "AVX2_VNNI",
    "AVX2_VNNI_2",
    "AVX512_CORE",
    "AVX512_CORE_VNNI",
];

impl Processor {
    /// This machine's. `ONEDNN_MAX_CPU_ISA`, or by its older name `DNNL_MAX_CPU_ISA`, is heeded where it
    /// names less, since oneDNN does.
    #[must_use]
    pub fn of_this_machine() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected;
            let ceiling = std::env::var("ONEDNN_MAX_CPU_ISA")
                .or_else(|_| std::env::var("DNNL_MAX_CPU_ISA"))
                .unwrap_or_default()
                .to_ascii_uppercase();
            let below = |names: &[&str]| names.contains(&ceiling.as_str());
            Self {
                x86: true,
                avx2: is_x86_feature_detected!("avx2") && !below(&CEILINGS[..2]),
                bf16: is_x86_feature_detected!("avx512bf16") && !below(&CEILINGS),
                vnni: is_x86_feature_detected!("avx512vnni") && !below(&CEILINGS[..6])
                    || is_x86_feature_detected!("avxvnni")
                        && !below(&CEILINGS[..3])
                        && ceiling != "AVX512_CORE",
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Self {
            x86: false,
            avx2: false,
            bf16: false,
            vnni: false,
        }
    }

    /// Those of its features that count, for people.
    fn features(self) -> &'static str {
        match (self.bf16, self.vnni, self.avx2) {
            (true, true, _) => "AVX512-BF16 and VNNI",
            (true, false, _) => "AVX512-BF16",
            (false, true, _) => "VNNI",
            (false, false, true) => "AVX2",
            (false, false, false) => "neither AVX2 nor more",
        }
    }
}

/// Where a network is asked to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestedDevice {
    /// On the first CUDA device, where libtorch finds one, else on the processor.
    #[default]
    Auto,
    /// On the processor.
    Cpu,
    /// On the CUDA device of that number.
    Cuda(usize),
}

impl RequestedDevice {
    /// The place of that name, as in the setting.
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
    /// Where it is a CUDA device that libtorch does not find.
    pub fn device(self) -> Result<Device, String> {
        let found = usize::try_from(Cuda::device_count()).unwrap_or(0);
        match self {
            Self::Auto if found > 0 => Ok(Device::Cuda(0)),
            Self::Auto | Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) if number < found => Ok(Device::Cuda(number)),
            Self::Cuda(number) => Err(format!(
                "DEVICE is cuda:{number}, but libtorch finds {found} CUDA devices{}",
                match Cuda::is_available() {
                    true => "",
                    false => ": this one is built without CUDA, or there is no driver",
                }
            )),
        }
    }
}

/// What is asked of a network's arithmetic. The default leaves everything to this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Requested {
    /// `None` for the one that suits.
    pub precision: Option<Precision>,
    /// Where it runs.
    pub device: RequestedDevice,
}

impl Requested {
    /// Single precision on the processor: what others are compared with.
    pub const REFERENCE: Self = Self {
        precision: Some(Precision::F32),
        device: RequestedDevice::Cpu,
    };
}

/// An arithmetic, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The precision.
    pub precision: Precision,
    /// Where.
    pub device: Device,
    /// The reason, for the log.
    pub why: String,
    /// What somebody who asked for it should know.
    pub warning: Option<&'static str>,
}

/// Chooses what is `wanted`. Where nothing is, the fastest of those that cost no accuracy here: single
/// precision, bfloat16 where the processor computes it by itself, eight bits where the file is
/// `calibrated`, with scales measured on pictures that its user vouches for. Each is timed by `measure`;
/// a less exact one must be faster by a tenth. On a GPU it is single precision.
///
/// # Errors
/// Those of `measure`.
pub fn choose<E>(
    wanted: Option<Precision>,
    device: Device,
    processor: Processor,
    calibrated: bool,
    mut measure: impl FnMut(Precision) -> Result<Duration, E>,
) -> Result<Choice, E> {
    let on_processor = device == Device::Cpu;
    if let Some(precision) = wanted {
        let warning = match precision {
            Precision::F32 => None,
            Precision::Bf16 => (on_processor && !processor.bf16).then_some(
                "this processor has no bfloat16 (AVX512-BF16): it is emulated, and may be twenty \
                 times slower than f32",
            ),
            Precision::Int8 => (!processor.vnni).then_some(
                "this processor has no VNNI: int8 is about half as fast as with it, and weights \
                 have seven bits, so that 16-bit sums do not overflow",
            ),
        };
        return Ok(Choice {
            precision,
            device,
            why: "asked for by PRECISION".to_owned(),
            warning,
        });
    }
    let chosen = |precision, why| Choice {
        precision,
        device,
        why,
        warning: None,
    };
    if !on_processor {
        return Ok(chosen(Precision::F32, "it runs on a GPU".to_owned()));
    }
    let fitting = Precision::ALL
        .into_iter()
        .filter(|precision| match precision {
            Precision::F32 => true,
            Precision::Bf16 => processor.bf16,
            Precision::Int8 => processor.avx2 && calibrated,
        });
    let fitting: Vec<Precision> = fitting.collect();
    if let [only] = fitting[..] {
        let has = processor.features();
        return Ok(chosen(only, format!("the processor has {has}")));
    }
    let mut best: Option<(Precision, Duration)> = None;
    let mut passes = Vec::new();
    for precision in fitting {
        let pass = measure(precision)?;
        passes.push(format!("{precision} {:.1} ms", pass.as_secs_f64() * 1e3));
        if best.is_none_or(|(_, best)| pass < best.mul_f64(0.9)) {
            best = Some((precision, pass));
        }
    }
    let precision = best.map_or(Precision::F32, |(precision, _)| precision);
    let why = format!("the fastest here, a pass: {}", passes.join(", "));
    Ok(chosen(precision, why))
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

    /// The choice where passes take so many milliseconds in f32, bf16 and int8.
    fn auto(processor: Processor, calibrated: bool, milliseconds: [u64; 3]) -> Choice {
        let measure = |precision| {
            let index = Precision::ALL.iter().position(|&other| other == precision);
            index
                .map(|index| Duration::from_millis(milliseconds[index]))
                .ok_or(())
        };
        choose(None, Device::Cpu, processor, calibrated, measure).unwrap()
    }

    #[test]
    fn the_fastest_is_chosen_and_of_equals_the_most_exact() {
        for (milliseconds, expected) in [
            ([100, 50, 40], Precision::Int8),
            ([100, 50, 60], Precision::Bf16),
            ([40, 50, 60], Precision::F32),
            ([100, 95, 91], Precision::F32),
            ([100, 50, 49], Precision::Bf16),
        ] {
            let choice = auto(ALL, true, milliseconds);
            assert_eq!(choice.precision, expected, "{milliseconds:?}");
            assert!(choice.why.contains("ms"), "{choice:?}");
        }
    }

    #[test]
    fn nothing_emulated_or_uncalibrated_is_chosen_however_fast_it_is() {
        assert_eq!(auto(PLAIN, false, [9, 1, 1]).precision, Precision::F32);
        assert_eq!(auto(ALL, false, [9, 5, 1]).precision, Precision::Bf16);
        let arm = Processor {
            x86: false,
            avx2: false,
            ..PLAIN
        };
        assert_eq!(auto(arm, true, [9, 1, 1]).precision, Precision::F32);
    }

    #[test]
    fn what_is_asked_for_is_done_with_a_warning_where_it_costs() {
        let asked = |precision, processor| {
            choose(Some(precision), Device::Cpu, processor, false, |_| Err(())).unwrap()
        };
        for precision in Precision::ALL {
            let choice = asked(precision, PLAIN);
            assert_eq!(choice.precision, precision);
            assert_eq!(choice.warning.is_some(), precision != Precision::F32);
            assert_eq!(asked(precision, ALL).warning, None);
        }
    }
}

//! `AdamW` (Loshchilov and Hutter 2019) with a bound on the gradient's norm. tch's own optimisers
//! keep their state to themselves, and a run could not be resumed exactly.

use std::collections::BTreeMap;

use tch::{Kind, TchError, Tensor};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
/// Decoupled, and of convolutions' weights only.
const WEIGHT_DECAY: f64 = 0.02;

/// One parameter with its moments.
#[derive(Debug)]
struct Slot {
    name: String,
    /// What the network computes with, in its precision.
    used: Tensor,
    /// What the steps add up in: `used` itself, or single precision where that has less.
    value: Tensor,
    first: Tensor,
    second: Tensor,
    rate: f64,
    decay: f64,
}

/// The parameters of a network and the state of their descent.
#[derive(Debug)]
pub struct AdamW {
    slots: Vec<Slot>,
    steps: i32,
    most_norm: f64,
}

impl AdamW {
    /// Takes charge of these parameters, which share the network's memory, and asks for their
    /// gradients. The gradient of a step is scaled down to norm `most_norm` where it is longer.
    #[must_use]
    pub fn new(parameters: Vec<(String, Tensor)>, most_norm: f64) -> Self {
        let slots = parameters
            .into_iter()
            .map(|(name, used)| {
                // Shares the memory where the kind is the same already.
                let value = used.to_kind(Kind::Float).detach();
                Slot {
                    first: value.zeros_like(),
                    second: value.zeros_like(),
                    rate: rate(&name),
                    decay: if value.dim() > 1 { WEIGHT_DECAY } else { 0.0 },
                    used: used.set_requires_grad(true),
                    value,
                    name,
                }
            })
            .collect();
        Self {
            slots,
            steps: 0,
            most_norm,
        }
    }

    /// Steps made.
    #[must_use]
    pub fn steps(&self) -> i32 {
        self.steps
    }

    /// Descends along the gradient of `loss` and returns the gradient's norm. A gradient that is
    /// not finite changes nothing but the count of steps.
    ///
    /// # Errors
    /// Where libtorch fails.
    pub fn step(&mut self, loss: &Tensor, learning_rate: f64) -> Result<f64, TchError> {
        loss.f_backward()?;
        self.steps += 1;
        tch::no_grad(|| {
            let norm = self.norm()?;
            if norm.is_finite() {
                let clip = (self.most_norm / norm.max(1e-12)).min(1.0);
                for slot in &mut self.slots {
                    slot.descend(clip, learning_rate, self.steps)?;
                }
            }
            for slot in &self.slots {
                let _ = slot.used.grad().f_zero_()?;
            }
            Ok(norm)
        })
    }

    /// The norm of the whole gradient, with each parameter's part measured in its own rate.
    fn norm(&self) -> Result<f64, TchError> {
        let mut sum = 0.0;
        for slot in &self.slots {
            let gradient = slot.used.grad();
            if gradient.defined() {
                let square = gradient
                    .f_to_kind(Kind::Float)?
                    .f_square()?
                    .f_sum(Kind::Double)?;
                sum += square.f_double_value(&[])? * slot.rate.powi(2);
            }
        }
        Ok(sum.sqrt())
    }

    /// Parameters and moments by name, for a checkpoint.
    #[must_use]
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state = BTreeMap::new();
        for slot in &self.slots {
            for (prefix, tensor) in slot.tensors() {
                state.insert(format!("{prefix}{}", slot.name), tensor.shallow_clone());
            }
        }
        state
    }

    /// Puts back what [`state`](Self::state) gave, after so many steps.
    ///
    /// # Errors
    /// Where a tensor is missing or has another shape.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>, steps: i32) -> anyhow::Result<()> {
        tch::no_grad(|| {
            for slot in &self.slots {
                for (prefix, tensor) in slot.tensors() {
                    let name = format!("{prefix}{}", slot.name);
                    let saved = state
                        .get(&name)
                        .filter(|saved| saved.size() == tensor.size())
                        .ok_or_else(|| {
                            anyhow::anyhow!("no tensor {name} of shape {:?}", tensor.size())
                        })?;
                    tensor.shallow_clone().f_copy_(saved)?;
                }
                slot.publish()?;
            }
            self.steps = steps;
            Ok(())
        })
    }
}

impl Slot {
    fn tensors(&self) -> [(&'static str, &Tensor); 3] {
        [
            ("", &self.value),
            ("adam.first.", &self.first),
            ("adam.second.", &self.second),
        ]
    }

    fn descend(&mut self, clip: f64, learning_rate: f64, step: i32) -> Result<(), TchError> {
        let gradient = self.used.grad();
        if !gradient.defined() {
            return Ok(());
        }
        let gradient = gradient.f_to_kind(Kind::Float)?.f_mul_scalar(clip)?;
        let rate = learning_rate * self.rate;
        let _ = self.first.f_lerp_(&gradient, 1.0 - BETA1)?;
        let _ = self
            .second
            .f_mul_scalar_(BETA2)?
            .f_add_(&gradient.f_square()?.f_mul_scalar(1.0 - BETA2)?)?;
        let mean = self.first.f_div_scalar(1.0 - BETA1.powi(step))?;
        let deviation = self
            .second
            .f_div_scalar(1.0 - BETA2.powi(step))?
            .f_sqrt()?
            .f_add_scalar(EPSILON)?;
        let _ = self.value.f_mul_scalar_(1.0 - learning_rate * self.decay)?;
        let _ = self
            .value
            .f_sub_(&mean.f_div(&deviation)?.f_mul_scalar(rate)?)?;
        self.publish()
    }

    /// Lets the network compute with the value.
    fn publish(&self) -> Result<(), TchError> {
        if self.used.kind() != self.value.kind() {
            self.used.shallow_clone().f_copy_(&self.value)?;
        }
        Ok(())
    }
}

/// A parameter's learning rate over the run's. Adam moves every number equally far, but the first
/// layer's are smaller by the range of its inputs (levels of 0 to 255), and the scales of the L2
/// normalisation far larger.
fn rate(name: &str) -> f64 {
    match name {
        "vgg.0.weight" => super::initial::FIRST_LAYER,
        "L2Norm.weight" => 10.0,
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_moves_every_number_by_the_learning_rate() {
        let value = Tensor::from_slice(&[1.0f32, -2.0]);
        let mut adam = AdamW::new(vec![("bias".to_owned(), value.shallow_clone())], 100.0);
        let loss = (&value * Tensor::from_slice(&[5.0f32, -0.1])).sum(Kind::Float);
        let norm = adam.step(&loss, 0.01).unwrap();
        assert!((norm - 5.001).abs() < 1e-3);
        let moved = Vec::<f32>::try_from(&value.detach()).unwrap();
        assert!((moved[0] - 0.99).abs() < 1e-5, "{moved:?}");
        assert!((moved[1] + 1.99).abs() < 1e-5, "{moved:?}");
    }

    #[test]
    fn steps_too_small_for_half_precision_add_up_beside_it() {
        let used = Tensor::from_slice(&[1.0f32]).to_kind(Kind::BFloat16);
        let mut adam = AdamW::new(vec![("bias".to_owned(), used.shallow_clone())], 100.0);
        for _ in 0..20 {
            let loss = used.sum(Kind::Float);
            adam.step(&loss, 0.001).unwrap();
        }
        // A step alone would be rounded away: numbers near 1 are 1/256 apart.
        let moved = f64::try_from(&used.detach().to_kind(Kind::Double)).unwrap();
        assert!((moved - 0.98).abs() < 0.004, "{moved}");
    }

    #[test]
    fn a_gradient_that_is_not_finite_moves_nothing() {
        let value = Tensor::from_slice(&[1.0f32]);
        let mut adam = AdamW::new(vec![("bias".to_owned(), value.shallow_clone())], 1.0);
        let loss = (&value * f64::INFINITY).sum(Kind::Float);
        adam.step(&loss, 0.01).unwrap();
        assert_eq!(Vec::<f32>::try_from(&value.detach()).unwrap(), [1.0]);
        assert_eq!(adam.steps(), 1);
    }
}

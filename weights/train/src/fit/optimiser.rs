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
    /// What each replica of the network computes with.
    used: Vec<Tensor>,
    /// The first of those without its gradient; it shares the memory.
    value: Tensor,
    first: Tensor,
    second: Tensor,
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
    /// Takes charge of the parameters of the replicas of a network, which share their memory, and
    /// asks for their gradients. The gradient of a step is scaled down to norm `most_norm` where it
    /// is longer. There must be a replica.
    #[must_use]
    pub fn new(replicas: Vec<Vec<(String, Tensor)>>, most_norm: f64) -> Self {
        let mut slots: Vec<Slot> = Vec::new();
        for (name, used) in replicas.into_iter().flatten() {
            let used = used.set_requires_grad(true);
            if let Some(slot) = slots.iter_mut().find(|slot| slot.name == name) {
                slot.used.push(used);
                continue;
            }
            let value = used.detach();
            slots.push(Slot {
                first: value.zeros_like(),
                second: value.zeros_like(),
                decay: if value.dim() > 1 { WEIGHT_DECAY } else { 0.0 },
                used: vec![used],
                value,
                name,
            });
        }
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

    /// Descends along the sum of the replicas' gradients, takes those away, and returns the norm of the sum. A
    /// norm that is not finite changes nothing but the count of steps.
    ///
    /// # Errors
    /// Where libtorch fails.
    pub fn step(&mut self, learning_rate: f64) -> Result<f64, TchError> {
        self.steps += 1;
        tch::no_grad(|| {
            let gradients: Vec<Option<Tensor>> = self
                .slots
                .iter()
                .map(Slot::gradient)
                .collect::<Result<_, _>>()?;
            let mut sum = 0.0;
            for gradient in gradients.iter().flatten() {
                let square = gradient.f_square()?.f_sum(Kind::Double)?;
                sum += square.f_double_value(&[])?;
            }
            let norm = sum.sqrt();
            if norm.is_finite() {
                let clip = (self.most_norm / norm.max(1e-12)).min(1.0);
                for (slot, gradient) in self.slots.iter_mut().zip(gradients) {
                    if let Some(gradient) = gradient {
                        slot.descend(&gradient.f_mul_scalar(clip)?, learning_rate, self.steps)?;
                    }
                }
            }
            Ok(norm)
        })
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

    /// The sum of the replicas' gradients, which are zero afterwards. `None` where there is none.
    fn gradient(&self) -> Result<Option<Tensor>, TchError> {
        let mut sum: Option<Tensor> = None;
        for used in &self.used {
            let mut gradient = used.grad();
            if gradient.defined() {
                sum = Some(match sum {
                    Some(sum) => sum.f_add(&gradient)?,
                    None => gradient.copy(),
                });
                let _ = gradient.f_zero_()?;
            }
        }
        Ok(sum)
    }

    fn descend(
        &mut self,
        gradient: &Tensor,
        learning_rate: f64,
        step: i32,
    ) -> Result<(), TchError> {
        let _ = self.first.f_lerp_(gradient, 1.0 - BETA1)?;
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
            .f_sub_(&mean.f_div(&deviation)?.f_mul_scalar(learning_rate)?)?;
        self.publish()
    }

    /// Lets the other replicas compute with the value.
    fn publish(&self) -> Result<(), TchError> {
        for used in self.used.iter().skip(1) {
            used.shallow_clone().f_copy_(&self.value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_moves_every_number_by_the_learning_rate() {
        let value = Tensor::from_slice(&[1.0f32, -2.0]);
        let mut adam = AdamW::new(
            vec![vec![("bias".to_owned(), value.shallow_clone())]],
            100.0,
        );
        (&value * Tensor::from_slice(&[5.0f32, -0.1]))
            .sum(Kind::Float)
            .backward();
        let norm = adam.step(0.01).unwrap();
        assert!((norm - 5.001).abs() < 1e-3);
        let moved = Vec::<f32>::try_from(&value.detach()).unwrap();
        assert!((moved[0] - 0.99).abs() < 1e-5, "{moved:?}");
        assert!((moved[1] + 1.99).abs() < 1e-5, "{moved:?}");
    }

    #[test]
    fn replicas_descend_along_the_sum_of_their_gradients_and_stay_alike() {
        let replicas = [1.0f32, 1.0].map(|start| Tensor::from_slice(&[start]));
        let named = |t: &Tensor| vec![("bias".to_owned(), t.shallow_clone())];
        let mut adam = AdamW::new(replicas.iter().map(named).collect(), 100.0);
        (&replicas[0] * 3.0).sum(Kind::Float).backward();
        (&replicas[1] * 5.0).sum(Kind::Float).backward();
        assert!((adam.step(0.01).unwrap() - 8.0).abs() < 1e-6);
        for replica in replicas {
            let moved = Vec::<f32>::try_from(&replica.detach()).unwrap();
            assert!((moved[0] - 0.99).abs() < 1e-5, "{moved:?}");
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_moves_nothing() {
        let value = Tensor::from_slice(&[1.0f32]);
        let mut adam = AdamW::new(vec![vec![("bias".to_owned(), value.shallow_clone())]], 1.0);
        (&value * f64::INFINITY).sum(Kind::Float).backward();
        adam.step(0.01).unwrap();
        assert_eq!(Vec::<f32>::try_from(&value.detach()).unwrap(), [1.0]);
        assert_eq!(adam.steps(), 1);
    }
}

//! How the demo model was made, and how the accuracy of any SSD300 weights is measured.
pub mod scenes;
